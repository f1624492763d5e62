// What a dispatch is about; kernels read what concerns them.
struct Params {
    first: u32,       // the first item
    count: u32,       // items
    columns: u32,     // voxels
    part: u32,        // voxels, or items, of a part of a sum
    positions: u32,   // rows of a part of the output, or of a triangle
    base: u32,        // where the output begins
    other_first: u32, // the first item of the other side of a triangle
    other_count: u32, // its items
    rows: u32,        // rows of the matrix
    parts: u32,       // parts of a sum
    start: u32,       // where a block begins in the order of the sweep
    is_positive: u32, // which projection
}
