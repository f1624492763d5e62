// Products of rows of the system matrix with images of FRAMES frames; LANES invocations of a group share a sum or a tile.
// Complex numbers are pairs (re, im). Images and data are frame after frame, products and alphas row after row.

// A row of this shard, where it stands in the block, and its weight.
struct Item {
    row: u32,
    position: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> matrix: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> items: array<Item>;
@group(0) @binding(3) var<storage, read> values: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> results: array<vec2<f32>>;

const TILE = 4u;

var<workgroup> shared_sums: array<vec2<f32>, LANES * FRAMES>;
var<workgroup> tile_sums: array<vec2<f32>, LANES * TILE * TILE>;

fn product(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

fn conjugate(a: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(a.x, -a.y);
}

// One item and one part of the voxels for each group: w Σ a_n x_n.
@compute @workgroup_size(LANES)
fn dots(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = items[params.first + group.x];
    let end = min((group.y + 1u) * params.part, params.columns);
    let row = item.row * params.columns;
    var sums: array<vec2<f32>, FRAMES>;
    for (var n = group.y * params.part + lane; n < end; n += LANES) {
        let entry = matrix[row + n];
        for (var f = 0u; f < FRAMES; f++) {
            sums[f] += product(entry, values[f * params.columns + n]);
        }
    }
    for (var f = 0u; f < FRAMES; f++) {
        shared_sums[f * LANES + lane] = sums[f];
    }
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            for (var f = 0u; f < FRAMES; f++) {
                shared_sums[f * LANES + lane] += shared_sums[f * LANES + lane + width];
            }
        }
    }
    workgroupBarrier();
    if lane < FRAMES {
        let at = (group.y * params.positions + item.position) * FRAMES + lane;
        results[params.base + at] = item.weight * shared_sums[lane * LANES];
    }
}

// One voxel for each invocation: x_n += Σ w α conj(a_n) over all items.
@compute @workgroup_size(LANES)
fn axpys(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if n >= params.columns {
        return;
    }
    var sums: array<vec2<f32>, FRAMES>;
    for (var i = 0u; i < params.count; i++) {
        let item = items[params.first + i];
        let entry = item.weight * conjugate(matrix[item.row * params.columns + n]);
        for (var f = 0u; f < FRAMES; f++) {
            sums[f] += product(values[item.position * FRAMES + f], entry);
        }
    }
    for (var f = 0u; f < FRAMES; f++) {
        results[f * params.columns + n] += sums[f];
    }
}

// The same of one frame, and of one part of the items for each row of groups, which have a sum of their own.
@compute @workgroup_size(LANES)
fn partial(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let n = id.x;
    if n >= params.columns {
        return;
    }
    let end = min((group.y + 1u) * params.part, params.count);
    var sum = vec2<f32>();
    for (var i = group.y * params.part; i < end; i++) {
        let item = items[params.first + i];
        let entry = item.weight * conjugate(matrix[item.row * params.columns + n]);
        sum += product(values[item.position], entry);
    }
    results[(params.base + group.y) * params.columns + n] = sum;
}

// Adds up the parts.
@compute @workgroup_size(LANES)
fn gather(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if n >= params.columns {
        return;
    }
    var sum = vec2<f32>();
    for (var part = 0u; part < params.parts; part++) {
        sum += values[part * params.columns + n];
    }
    results[n] = sum;
}

// A tile of a block's triangle for each group: w_i w_j a_i · conj(a_j) for positions j < i, column after column.
// `values` is the shard of the rows j.
@compute @workgroup_size(LANES)
fn triangle(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var lower: array<u32, TILE>;
    var upper: array<u32, TILE>;
    for (var t = 0u; t < TILE; t++) {
        // Behind the last item the last one again, whose products nobody keeps.
        lower[t] = min(group.x * TILE + t, params.count - 1u);
        upper[t] = min(group.y * TILE + t, params.other_count - 1u);
    }
    var sums: array<vec2<f32>, TILE * TILE>;
    for (var n = lane; n < params.columns; n += LANES) {
        var others: array<vec2<f32>, TILE>;
        for (var t = 0u; t < TILE; t++) {
            let row = items[params.other_first + upper[t]].row;
            others[t] = conjugate(values[row * params.columns + n]);
        }
        for (var s = 0u; s < TILE; s++) {
            let entry = matrix[items[params.first + lower[s]].row * params.columns + n];
            for (var t = 0u; t < TILE; t++) {
                sums[s * TILE + t] += product(entry, others[t]);
            }
        }
    }
    for (var p = 0u; p < TILE * TILE; p++) {
        tile_sums[p * LANES + lane] = sums[p];
    }
    workgroupBarrier();
    if lane >= TILE * TILE {
        return;
    }
    var sum = vec2<f32>();
    for (var other = 0u; other < LANES; other++) {
        sum += tile_sums[lane * LANES + other];
    }
    let s = group.x * TILE + lane / TILE;
    let t = group.y * TILE + lane % TILE;
    if s >= params.count || t >= params.other_count {
        return;
    }
    let i = items[params.first + s];
    let j = items[params.other_first + t];
    if j.position < i.position {
        results[params.base + j.position * params.positions + i.position] = i.weight * j.weight * sum;
    }
}

// Projects one voxel of all frames for each invocation.
@compute @workgroup_size(LANES)
fn project(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if n >= params.columns {
        return;
    }
    for (var f = 0u; f < FRAMES; f++) {
        let at = f * params.columns + n;
        var value = results[at].x;
        // Written so that what is no number stays, and is found.
        if params.is_positive != 0u && value < 0.0 {
            value = 0.0;
        }
        results[at] = vec2<f32>(value, 0.0);
    }
}
