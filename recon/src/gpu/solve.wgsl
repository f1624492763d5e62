// The triangular system of a block: (D⁻¹ + L) α = b − A x − √λ v, by one group of invocations, for FRAMES frames.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> products: array<vec2<f32>>;  // parts of A x, part after part
@group(0) @binding(2) var<storage, read> order: array<u32>;           // rows in the order of the sweep
@group(0) @binding(3) var<storage, read> inverses: array<f32>;        // √λ, then D in the order of the sweep
@group(0) @binding(4) var<storage, read> triangles: array<vec2<f32>>; // L of each block, column after column
@group(0) @binding(5) var<storage, read> data: array<vec2<f32>>;      // b, frame after frame
@group(0) @binding(6) var<storage, read_write> multipliers: array<vec2<f32>>; // v
@group(0) @binding(7) var<storage, read_write> alphas: array<vec2<f32>>;

var<workgroup> rest: array<vec2<f32>, BLOCK * FRAMES>;

@compute @workgroup_size(LANES)
fn solve(@builtin(local_invocation_index) lane: u32) {
    let size = params.count * FRAMES;
    let epsilon = inverses[0];
    for (var e = lane; e < size; e += LANES) {
        let at = (e % FRAMES) * params.rows + order[params.start + e / FRAMES];
        var value = data[at] - epsilon * multipliers[at];
        for (var part = 0u; part < params.parts; part++) {
            value -= products[part * BLOCK * FRAMES + e];
        }
        rest[e] = value;
    }
    for (var j = 0u; j + 1u < params.count; j++) {
        workgroupBarrier();
        let inverse = inverses[1u + params.start + j];
        for (var e = (j + 1u) * FRAMES + lane; e < size; e += LANES) {
            let alpha = inverse * rest[j * FRAMES + e % FRAMES];
            let factor = triangles[params.base + j * BLOCK + e / FRAMES];
            rest[e] -= vec2<f32>(factor.x * alpha.x - factor.y * alpha.y, factor.x * alpha.y + factor.y * alpha.x);
        }
    }
    workgroupBarrier();
    for (var e = lane; e < size; e += LANES) {
        let position = params.start + e / FRAMES;
        let alpha = inverses[1u + position] * rest[e];
        alphas[e] = alpha;
        multipliers[(e % FRAMES) * params.rows + order[position]] += epsilon * alpha;
    }
}
