//! What is dispatched for rows of a sharded matrix: lists of items, and for each dispatch its parameters. Data only.

use super::kernels::{LANES, PARAMS_STEP, Params, TILE};

/// Dispatches along one axis at most; no card has less.
const GROUPS_MAX: u32 = 65_535;

/// Voxels of a part of a sum: parts are computed by groups of their own, so that a block of few rows keeps a card busy.
const PART_VOXELS: u32 = 2048;

/// A row of a shard, where it stands in a list, and its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Item {
    pub(super) row: u32,
    pub(super) position: u32,
    pub(super) weight: f32,
}

/// Which kernel, with which shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    /// Products of a shard's rows with images.
    Dots(usize),
    /// Rows of a shard added to images.
    Axpys(usize),
    /// The triangular system of a block.
    Solve,
    /// A triangle's part of the rows of one shard with those of another.
    Triangle(usize, usize),
    /// Sums of rows of a shard.
    Partial(usize),
    /// The sum of such sums.
    Gather,
}

/// A dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kernel: Kernel,
    /// Where its parameters are, in bytes.
    pub(super) offset: u32,
    /// Groups along each axis.
    pub(super) groups: [u32; 2],
}

/// Dispatches, in their order, and what they read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) params: Vec<Params>,
    pub(super) items: Vec<Item>,
}

/// A matrix as scripts see it. All counts fit 32 bits: [`super::matrix::ShardedMatrix`] refuses others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) shard_rows: u32,
}

/// Row numbers as kernels count them. A matrix in a card's memory has no greater ones.
pub(super) fn narrow(rows: &[usize]) -> Vec<u32> {
    rows.iter().map(|row| u32::try_from(*row).unwrap_or(u32::MAX)).collect()
}

/// Items of a block in one shard.
#[derive(Debug, Clone, Copy)]
struct Share {
    shard: usize,
    first: u32,
    count: u32,
}

impl Shape {
    /// Parts of a sum over the voxels.
    pub(super) fn parts(&self) -> u32 {
        self.columns.div_ceil(PART_VOXELS)
    }

    /// Parameters and groups of the kernel that inverts the triangular systems of a sweep over so many rows.
    pub(super) fn inversion(rows: u32, block: u32) -> (Params, [u32; 2]) {
        let blocks = rows.div_ceil(block);
        let along = blocks.clamp(1, GROUPS_MAX);
        (Params { rows, part: along, ..Params::default() }, [along, blocks.div_ceil(along).max(1)])
    }

    fn groups_of_voxels(&self) -> u32 {
        self.columns.div_ceil(LANES)
    }

    /// The shard of a row, and the row in it.
    fn place(&self, row: u32) -> (usize, u32) {
        ((row / self.shard_rows) as usize, row % self.shard_rows)
    }
}

impl Script {
    fn push(&mut self, kernel: Kernel, params: Params, groups: [u32; 2]) {
        let index = u32::try_from(self.params.len()).unwrap_or(u32::MAX);
        self.params.push(params);
        self.steps.push(Step { kernel, offset: index.saturating_mul(PARAMS_STEP), groups });
    }

    /// Appends the items of rows, shard after shard, in the order of their positions.
    fn share(&mut self, shape: &Shape, rows: &[u32], weight: &dyn Fn(u32) -> f32) -> Vec<Share> {
        let mut all: Vec<(usize, Item)> = Vec::with_capacity(rows.len());
        for (position, &k) in (0..).zip(rows) {
            let (shard, row) = shape.place(k);
            all.push((shard, Item { row, position, weight: weight(k) }));
        }
        all.sort_by_key(|(shard, _)| *shard);
        let mut shares: Vec<Share> = Vec::new();
        for (shard, item) in all {
            let at = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
            self.items.push(item);
            match shares.last_mut() {
                Some(share) if share.shard == shard => share.count += 1,
                _ => shares.push(Share { shard, first: at, count: 1 }),
            }
        }
        shares
    }

    /// Products of rows with whole images; results are at the rows' positions.
    pub(super) fn dots(shape: &Shape, rows: &[u32]) -> Self {
        let mut script = Self::default();
        for share in script.share(shape, rows, &|_| 1.0) {
            let mut first = share.first;
            while first < share.first + share.count {
                let count = (share.first + share.count - first).min(GROUPS_MAX);
                let params =
                    Params { first, count, columns: shape.columns, part: shape.columns, ..Params::default() };
                script.push(Kernel::Dots(share.shard), params, [count, 1]);
                first += count;
            }
        }
        script
    }

    /// The sum of rows times the values at their positions, in parts of which there are at most `parts_max`, unless there
    /// are more shards.
    pub(super) fn sum(shape: &Shape, rows: &[u32], parts_max: u32) -> Self {
        let mut script = Self::default();
        let length = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let part = length.div_ceil(parts_max).max(LANES);
        let mut base = 0;
        for share in script.share(shape, rows, &|_| 1.0) {
            let parts = share.count.div_ceil(part);
            let (first, count, columns) = (share.first, share.count, shape.columns);
            let params = Params { first, count, columns, part, base, ..Params::default() };
            script.push(Kernel::Partial(share.shard), params, [shape.groups_of_voxels(), parts]);
            base += parts;
        }
        let params = Params { columns: shape.columns, parts: base, ..Params::default() };
        script.push(Kernel::Gather, params, [shape.groups_of_voxels(), 1]);
        script
    }

    /// Parts that [`Script::sum`] may have.
    pub(super) fn parts_of_sum(parts_max: u32, shards: usize) -> usize {
        // Each shard may end with a part that is not full.
        parts_max as usize + shards
    }

    /// A sweep over rows in blocks of `block`, and the triangles of its blocks.
    pub(super) fn sweep(
        shape: &Shape,
        order: &[u32],
        block: u32,
        weight: &dyn Fn(u32) -> f32,
    ) -> (Self, Vec<Step>) {
        let (mut script, mut triangles) = (Self::default(), Vec::new());
        let (columns, parts) = (shape.columns, shape.parts());
        for (index, rows) in (0..).zip(order.chunks(block as usize)) {
            let shares = script.share(shape, rows, weight);
            let whole = Params {
                columns,
                part: PART_VOXELS,
                positions: block,
                rows: shape.rows,
                parts,
                start: index * block,
                ..Params::default()
            };
            for share in &shares {
                let params = Params { first: share.first, count: share.count, ..whole };
                script.push(Kernel::Dots(share.shard), params, [share.count, parts]);
            }
            let count = u32::try_from(rows.len()).unwrap_or(block);
            let base = index * block * block;
            script.push(Kernel::Solve, Params { count, base, ..whole }, [1, 1]);
            for share in &shares {
                let params = Params { first: share.first, count: share.count, ..whole };
                script.push(Kernel::Axpys(share.shard), params, [shape.groups_of_voxels(), 1]);
            }
            if block > 1 {
                triangles.push((base, shares));
            }
        }
        let steps = script.steps.len();
        for (base, shares) in triangles {
            script.triangle(columns, block, base, &shares);
        }
        let triangles = script.steps.split_off(steps);
        (script, triangles)
    }

    fn triangle(&mut self, columns: u32, positions: u32, base: u32, shares: &[Share]) {
        for own in shares {
            for other in shares {
                let params = Params {
                    first: own.first,
                    count: own.count,
                    other_first: other.first,
                    other_count: other.count,
                    columns,
                    positions,
                    base,
                    ..Params::default()
                };
                let groups = [own.count.div_ceil(TILE), other.count.div_ceil(TILE)];
                self.push(Kernel::Triangle(own.shard, other.shard), params, groups);
            }
        }
    }

    /// The items as kernels read them.
    pub(super) fn item_words(&self) -> Vec<u32> {
        self.items.iter().flat_map(|item| [item.row, item.position, item.weight.to_bits()]).collect()
    }

    /// The parameters as kernels read them.
    pub(super) fn param_words(&self) -> Vec<u32> {
        self.params.iter().flat_map(Params::words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { rows: 10, columns: 5000, shard_rows: 4 };

    #[test]
    fn a_sweep_takes_every_row_once_and_blocks_in_their_order() {
        let order = [9, 0, 5, 1, 8, 3, 2];
        let (script, triangles) = Script::sweep(&SHAPE, &order, 4, &|k| if k == 5 { 2.0 } else { 1.0 });
        let kernels: Vec<_> = script.steps.iter().map(|step| step.kernel).collect();
        use Kernel::{Axpys, Dots, Solve};
        // 9 is in the shard 2, 0 and 1 in 0, 5 in 1; then 8 in 2, 3 and 2 in 0.
        let first = [Dots(0), Dots(1), Dots(2), Solve, Axpys(0), Axpys(1), Axpys(2)];
        let second = [Dots(0), Dots(2), Solve, Axpys(0), Axpys(2)];
        assert_eq!(kernels, [&first[..], &second].concat());
        assert_eq!(triangles.len(), 9 + 4);
        let mut seen: Vec<u32> = Vec::new();
        for step in script.steps.iter() {
            let params = script.params[(step.offset / PARAMS_STEP) as usize];
            if let Dots(shard) = step.kernel {
                assert_eq!(step.groups, [params.count, 3], "5000 voxels in parts of 2048");
                for item in &script.items[params.first as usize..][..params.count as usize] {
                    let row = u32::try_from(shard).unwrap() * 4 + item.row;
                    assert_eq!(order[(params.start + item.position) as usize], row);
                    assert_eq!(item.weight.to_bits(), if row == 5 { 2.0_f32 } else { 1.0 }.to_bits());
                    seen.push(row);
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 5, 8, 9]);
    }

    #[test]
    fn single_rows_have_no_triangles() {
        let (script, triangles) = Script::sweep(&SHAPE, &[1, 2], 1, &|_| 1.0);
        assert_eq!((script.steps.len(), triangles.len()), (6, 0));
    }

    #[test]
    fn sums_have_few_parts_and_all_items() {
        let shape = Shape { rows: 1000, columns: 70, shard_rows: 300 };
        let rows: Vec<u32> = (0..1000).collect();
        let script = Script::sum(&shape, &rows, 4);
        let groups: Vec<_> = script.steps.iter().map(|step| step.groups).collect();
        // Parts of 250 rows: two for each shard of 300, one for the last of 100.
        assert_eq!(groups, [[2, 2], [2, 2], [2, 2], [2, 1], [2, 1]]);
        assert_eq!(script.params.last().unwrap().parts, 7);
        assert!(7 <= Script::parts_of_sum(4, 4));
    }

    #[test]
    fn every_block_has_its_group_for_the_inversion() {
        for (rows, block, groups) in [(7, 4, [2, 1]), (65_535, 1, [65_535, 1]), (65_536, 1, [65_535, 2])] {
            let (params, found) = Shape::inversion(rows, block);
            assert_eq!((params.rows, params.part, found), (rows, groups[0], groups));
        }
    }

    #[test]
    fn a_card_gets_no_more_groups_than_it_takes() {
        let shape = Shape { rows: 200_000, columns: 3, shard_rows: 150_000 };
        let rows: Vec<u32> = (0..200_000).collect();
        let groups: Vec<_> = Script::dots(&shape, &rows).steps.iter().map(|step| step.groups[0]).collect();
        assert_eq!(groups, [65_535, 65_535, 18_930, 50_000]);
    }
}
