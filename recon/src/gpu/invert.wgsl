// (D⁻¹ + L)⁻¹ of each block. With D of the block's rows taken out on both sides, the Hermitian part of I + L is half the
// identity and half a Gram matrix, so its inverse has a norm of at most 2: products with it are as exact as substitution.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> triangles: array<vec2<f32>>; // L of each block, column after column
@group(0) @binding(2) var<storage, read> inverses: array<f32>;        // √λ, then D in the order of the sweep
@group(0) @binding(3) var<storage, read_write> systems: array<vec2<f32>>;

// A block for each group, a column of its inverse for each invocation, by forward substitution.
@compute @workgroup_size(LANES)
fn invert(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = (group.x + group.y * params.part) * BLOCK;
    if start >= params.rows {
        return;
    }
    let count = min(BLOCK, params.rows - start);
    for (var c = lane; c < count; c += LANES) {
        let column = (start + c) * BLOCK;
        systems[column + c] = vec2<f32>(inverses[1u + start + c], 0.0);
        for (var i = c + 1u; i < count; i++) {
            var sum = vec2<f32>();
            for (var j = c; j < i; j++) {
                let factor = triangles[(start + j) * BLOCK + i];
                let value = systems[column + j];
                sum += vec2<f32>(factor.x * value.x - factor.y * value.y, factor.x * value.y + factor.y * value.x);
            }
            systems[column + i] = -inverses[1u + start + i] * sum;
        }
    }
}
