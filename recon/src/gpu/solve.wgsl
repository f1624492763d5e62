// The triangular systems of blocks, (D⁻¹ + L) α = b − A x − √λ v: their inverses once, then a product for each block.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> products: array<vec2<f32>>; // parts of A x, part after part
@group(0) @binding(2) var<storage, read> order: array<u32>;          // rows in the order of the sweep
@group(0) @binding(3) var<storage, read> inverses: array<f32>;       // √λ, then D in the order of the sweep
@group(0) @binding(4) var<storage, read> systems: array<vec2<f32>>;  // (D⁻¹ + L)⁻¹ of each block, column after column
@group(0) @binding(5) var<storage, read> data: array<vec2<f32>>;     // b, frame after frame
@group(0) @binding(6) var<storage, read_write> multipliers: array<vec2<f32>>; // v
@group(0) @binding(7) var<storage, read_write> alphas: array<vec2<f32>>;

var<workgroup> rest: array<vec2<f32>, BLOCK * FRAMES>;

// One group: α of a block, for FRAMES frames.
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
    workgroupBarrier();
    for (var e = lane; e < size; e += LANES) {
        let i = e / FRAMES;
        let f = e % FRAMES;
        var alpha = vec2<f32>();
        for (var j = 0u; j <= i; j++) {
            let factor = systems[params.base + j * BLOCK + i];
            let value = rest[j * FRAMES + f];
            alpha += vec2<f32>(factor.x * value.x - factor.y * value.y, factor.x * value.y + factor.y * value.x);
        }
        alphas[e] = alpha;
        multipliers[f * params.rows + order[params.start + i]] += epsilon * alpha;
    }
}
