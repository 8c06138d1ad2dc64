//! 3 × 3 convolutions with less than half of the products (Winograd's F(2 × 2, 3 × 3): Lavin & Gray, "Fast algorithms for
//! convolutional neural networks", CVPR 2016, section 4).
//!
//! A picture is cut into tiles of 2 × 2 results. Each comes from a patch of 4 × 4 pixels; patches and kernels are turned
//! into 16 numbers a channel (a "plane" holds one of them for all tiles), every plane is one product, and 16 sums become
//! 4 results: `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`. All of it is linear, so the way back turns the same products round: the
//! gradient of the input is the same convolution with the kernel turned, that of the kernel `Gᵀ [Σ (A dy Aᵀ)ᵀ (Bᵀ d B)] G`.
//!
//! Groups of pictures are so small that their planes stay in cache. A picture's result does not depend on its neighbours.

use super::matmul::{Panels, Start, add_gradient, multiply};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::vectorise::vectorise;

/// Numbers of a patch, and planes.
const PLANES: usize = 16;
/// Channels from which the transformations cost less than they save.
const CHANNELS_MIN: usize = 16;
/// Tiles that go through the planes together: high enough products, planes that stay in cache.
const GROUP_TILES: usize = 64;
/// Channels that are transformed at once: one AVX2 register of `f32`.
const LANES: usize = 8;
/// Units of work at most, and partial sums of the kernel's gradient.
const PARTS_MAX: usize = 16;
/// Pictures of a unit of work at least, where there are more.
const PART_ROWS: usize = 8;

/// `[rows, height, width, inputs]` → `[rows, height, width, maps]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winograd {
    pub(super) rows: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) inputs: usize,
    pub(super) maps: usize,
}

/// A kernel's planes, packed.
pub(super) type Kernel<T> = Vec<Panels<T>>;

/// Gradients of a convolution.
pub(super) struct Own<T> {
    /// Of the kernel, `[maps, inputs, 3, 3]`.
    pub(super) weight: Vec<T>,
    /// Of the bias, `[maps]`.
    pub(super) bias: Vec<T>,
}

type Lanes<T, const L: usize> = [T; L];

#[inline(always)]
fn plus<T: Real, const L: usize>(mut a: Lanes<T, L>, b: Lanes<T, L>) -> Lanes<T, L> {
    for i in 0..L {
        a[i] += b[i];
    }
    a
}

#[inline(always)]
fn minus<T: Real, const L: usize>(mut a: Lanes<T, L>, b: Lanes<T, L>) -> Lanes<T, L> {
    for i in 0..L {
        a[i] -= b[i];
    }
    a
}

#[inline(always)]
#[expect(clippy::manual_memcpy, reason = "a move of known length, not a call")]
fn load<T: Real, const L: usize>(from: &[T], at: usize) -> Lanes<T, L> {
    let (from, mut to) = (&from[at..at + L], [T::ZERO; L]);
    for i in 0..L {
        to[i] = from[i];
    }
    to
}

#[inline(always)]
#[expect(clippy::manual_memcpy, reason = "a move of known length, not a call")]
fn store<T: Real, const L: usize>(values: Lanes<T, L>, to: &mut [T], at: usize) {
    let to = &mut to[at..at + L];
    for i in 0..L {
        to[i] = values[i];
    }
}

/// `Bᵀ` on four values.
#[inline(always)]
fn spread<T: Real, const L: usize>([a, b, c, d]: [Lanes<T, L>; 4]) -> [Lanes<T, L>; 4] {
    [minus(a, c), plus(b, c), minus(c, b), minus(b, d)]
}

/// `Aᵀ` on four values.
#[inline(always)]
fn gather<T: Real, const L: usize>([a, b, c, d]: [Lanes<T, L>; 4]) -> [Lanes<T, L>; 2] {
    [plus(plus(a, b), c), minus(minus(b, c), d)]
}

/// `A` on two values.
#[inline(always)]
fn scatter<T: Real, const L: usize>([a, b]: [Lanes<T, L>; 2]) -> [Lanes<T, L>; 4] {
    [a, plus(a, b), minus(a, b), minus([T::ZERO; L], b)]
}

/// Where the channels of a tile lie: pixel `(y, x)` of its patch at `first + (y · pitch + x) · channels`, plane `p` at
/// `p · plane + tile · channels`.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    pitch: usize,
    plane: usize,
    tile: usize,
    channels: usize,
}

impl Place {
    #[inline(always)]
    fn pixel(self, y: usize, x: usize) -> usize {
        self.first + (y * self.pitch + x) * self.channels
    }

    #[inline(always)]
    fn number(self, y: usize, x: usize) -> usize {
        (y * 4 + x) * self.plane + self.tile * self.channels
    }
}

#[inline(always)]
fn patch_lanes<T: Real, const L: usize>(values: &[T], place: Place, at: usize, planes: &mut [T]) {
    let mut columns = [[[T::ZERO; L]; 4]; 4];
    for x in 0..4 {
        let mut column = [[T::ZERO; L]; 4];
        for y in 0..4 {
            column[y] = load(values, place.pixel(y, x) + at);
        }
        columns[x] = spread(column);
    }
    for y in 0..4 {
        let row = spread([columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
        for x in 0..4 {
            store(row[x], planes, place.number(y, x) + at);
        }
    }
}

#[inline(always)]
fn sums_lanes<T: Real, const L: usize>(planes: &[T], place: Place, at: usize, results: &mut [T]) {
    let mut columns = [[[T::ZERO; L]; 2]; 4];
    for x in 0..4 {
        let mut column = [[T::ZERO; L]; 4];
        for y in 0..4 {
            column[y] = load(planes, place.number(y, x) + at);
        }
        columns[x] = gather(column);
    }
    for y in 0..2 {
        let row = gather([columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
        for x in 0..2 {
            store(row[x], results, (y * 2 + x) * place.channels + at);
        }
    }
}

#[inline(always)]
fn gradient_lanes<T: Real, const L: usize>(values: &[T], place: Place, at: usize, planes: &mut [T]) {
    let pixel = |y: usize, x: usize| load::<T, L>(values, place.pixel(y + 1, x + 1) + at);
    let columns = [scatter([pixel(0, 0), pixel(1, 0)]), scatter([pixel(0, 1), pixel(1, 1)])];
    for y in 0..4 {
        let row = scatter([columns[0][y], columns[1][y]]);
        for x in 0..4 {
            store(row[x], planes, place.number(y, x) + at);
        }
    }
}

/// Runs over all channels of a tile, some at a time.
macro_rules! over_channels {
    ($lanes:ident, $channels:expr, $from:expr, $place:expr, $to:expr) => {{
        let mut at = 0;
        while at + LANES <= $channels {
            $lanes::<T, LANES>($from, $place, at, $to);
            at += LANES;
        }
        while at < $channels {
            $lanes::<T, 1>($from, $place, at, $to);
            at += 1;
        }
    }};
}

vectorise! {
    /// Planes of one tile from its patch of a padded picture.
    fn patch_to_planes<T>(values: &[T], place: Place, planes: &mut [T]) {
        over_channels!(patch_lanes, place.channels, values, place, planes);
    }
}

vectorise! {
    /// Results `[2, 2, channels]` of one tile from its planes.
    fn planes_to_results<T>(planes: &[T], place: Place, results: &mut [T]) {
        over_channels!(sums_lanes, place.channels, planes, place, results);
    }
}

vectorise! {
    /// Planes of one tile from the gradients of its results in a padded picture.
    fn gradients_to_planes<T>(values: &[T], place: Place, planes: &mut [T]) {
        over_channels!(gradient_lanes, place.channels, values, place, planes);
    }
}

/// `G` on three numbers.
fn kernel_spread<T: Real>([a, b, c]: [T; 3]) -> [T; 4] {
    let (outer, half) = ((a + c) * T::HALF, b * T::HALF);
    [a, outer + half, outer - half, c]
}

/// `Gᵀ` on four numbers.
fn kernel_gather<T: Real>([a, b, c, d]: [T; 4]) -> [T; 3] {
    let (sum, difference) = ((b + c) * T::HALF, (b - c) * T::HALF);
    [a + sum, difference, sum + d]
}

impl Winograd {
    /// Whether a convolution of so many channels is quicker this way.
    pub(super) fn pays(inputs: usize, maps: usize) -> bool {
        inputs >= CHANNELS_MIN && maps >= CHANNELS_MIN
    }

    fn down(self) -> usize {
        self.height.div_ceil(2)
    }

    fn across(self) -> usize {
        self.width.div_ceil(2)
    }

    fn tiles(self) -> usize {
        self.down() * self.across()
    }

    /// Pixels of a row of a padded picture.
    fn pitch(self) -> usize {
        2 * self.across() + 2
    }

    /// A picture of zeros that is large enough for all patches.
    fn padded<T: Real>(self, channels: usize) -> Vec<T> {
        let mut buffer = pool::take((2 * self.down() + 2) * self.pitch() * channels);
        buffer.fill(T::ZERO);
        buffer
    }

    /// The rows of a picture within a padded one.
    fn rows_of<T>(self, padded: &mut [T], channels: usize) -> impl Iterator<Item = &mut [T]> {
        let (row, pitch) = (self.width * channels, self.pitch() * channels);
        padded[pitch + channels..].chunks_mut(pitch).take(self.height).map(move |to| &mut to[..row])
    }

    /// The place of tile `tile` of picture `picture` of a group of `tiles` tiles.
    fn place(self, picture: usize, tile: usize, tiles: usize, channels: usize) -> Place {
        let (y, x) = (tile / self.across(), tile % self.across());
        Place {
            first: (2 * y * self.pitch() + 2 * x) * channels,
            pitch: self.pitch(),
            plane: tiles * channels,
            tile: picture * self.tiles() + tile,
            channels,
        }
    }

    fn parts(self) -> usize {
        (self.rows / PART_ROWS).clamp(1, PARTS_MAX)
    }

    /// The groups of pictures of unit `part`.
    fn groups(self, part: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (first, end) = (part * self.rows / self.parts(), (part + 1) * self.rows / self.parts());
        let count = (GROUP_TILES / self.tiles().max(1)).max(1);
        (first..end).step_by(count).map(move |at| at..(at + count).min(end))
    }

    fn group_tiles(self) -> usize {
        (GROUP_TILES / self.tiles().max(1)).max(1) * self.tiles()
    }

    /// The planes of `weight [maps, inputs, 3, 3]`: `[inputs, maps]` each.
    pub(super) fn kernel<T: Real>(self, weight: &[T]) -> Kernel<T> {
        let Self { inputs, maps, .. } = self;
        kernel_planes(inputs, maps, |input, map| {
            let taps = &weight[(map * inputs + input) * 9..][..9];
            std::array::from_fn(|i| taps[i])
        })
    }

    /// The same of the kernel turned round, for the way back: `[maps, inputs]` each.
    pub(super) fn turned<T: Real>(self, weight: &[T]) -> Kernel<T> {
        let Self { inputs, maps, .. } = self;
        kernel_planes(maps, inputs, |map, input| {
            let taps = &weight[(map * inputs + input) * 9..][..9];
            std::array::from_fn(|i| taps[8 - i])
        })
    }

    /// `value`: where the results go; `finish(sums of some pixels of a row, their results)` completes them.
    pub(super) fn forward<T: Real>(self, x: &[T], kernel: &[Panels<T>], value: &mut [T], finish: impl Fn(&[T], &mut [T]) + Sync + Send) {
        let (from, to) = (self.height * self.width * self.inputs, self.height * self.width * self.maps);
        let shared = Shared::new(value);
        parallel::for_each(self.parts(), |part| {
            let mut padded = self.padded(self.inputs);
            let mut planes = Planes::new(self, self.inputs, self.maps);
            for group in self.groups(part) {
                let tiles = group.len() * self.tiles();
                for (at, picture) in group.clone().enumerate() {
                    let row = self.width * self.inputs;
                    let pixels = x[picture * from..(picture + 1) * from].chunks_exact(row);
                    self.rows_of(&mut padded, self.inputs).zip(pixels).for_each(|(to, from)| to.copy_from_slice(from));
                    self.patches((at, tiles), self.inputs, &padded, &mut planes.from);
                }
                planes.multiply(tiles, kernel);
                for (at, picture) in group.enumerate() {
                    // SAFETY: each picture has one result.
                    let result = unsafe { shared.slice(picture * to, to) };
                    self.results(at, tiles, &mut planes, result, &finish);
                }
            }
            planes.give();
            pool::give(padded);
        });
    }

    /// The patches of a padded picture into planes.
    fn patches<T: Real>(self, (picture, tiles): (usize, usize), channels: usize, padded: &[T], planes: &mut [T]) {
        for tile in 0..self.tiles() {
            patch_to_planes(padded, self.place(picture, tile, tiles, channels), planes);
        }
    }

    /// A picture's results from the planes' sums.
    fn results<T: Real>(self, picture: usize, tiles: usize, planes: &mut Planes<T>, result: &mut [T], finish: &impl Fn(&[T], &mut [T])) {
        let channels = planes.maps;
        for tile in 0..self.tiles() {
            planes_to_results(&planes.to, self.place(picture, tile, tiles, channels), &mut planes.results);
            let (top, left) = (2 * (tile / self.across()), 2 * (tile % self.across()));
            let columns = 2.min(self.width - left) * channels;
            for (y, sums) in planes.results.chunks_exact(2 * channels).take(self.height - top).enumerate() {
                let to = &mut result[((top + y) * self.width + left) * channels..][..columns];
                finish(&sums[..columns], to);
            }
        }
    }

    /// `before(picture, row, to, sums)` writes the gradients before bias and activation of a row of pixels and adds them to
    /// the bias's sums. `d_x`: where the gradient of the input goes, if anybody wants it, with the kernel turned round.
    pub(super) fn backward<T: Real>(
        self,
        x: &[T],
        turned: Option<(&[Panels<T>], &mut [T])>,
        before: impl Fn(usize, usize, &mut [T], &mut [T]) + Sync + Send,
    ) -> Own<T> {
        let Self { inputs, maps, .. } = self;
        let picture_len = self.height * self.width * inputs;
        let (turned, shared) = match turned {
            Some((turned, d_x)) => (turned, Some(Shared::new(d_x))),
            None => (&[][..], None),
        };
        let parts = parallel::map(self.parts(), |part| {
            let (mut sums, mut bias) = (pool::take(PLANES * maps * inputs), vec![T::ZERO; maps]);
            sums.fill(T::ZERO);
            let (mut padded, mut gradients) = (self.padded(inputs), self.padded(maps));
            let mut planes = Planes::new(self, maps, inputs);
            for group in self.groups(part) {
                let tiles = group.len() * self.tiles();
                for (at, picture) in group.clone().enumerate() {
                    let pixels = x[picture * picture_len..(picture + 1) * picture_len].chunks_exact(self.width * inputs);
                    self.rows_of(&mut padded, inputs).zip(pixels).for_each(|(to, from)| to.copy_from_slice(from));
                    // The planes of the input wait where the sums of its gradient will be.
                    self.patches((at, tiles), inputs, &padded, &mut planes.to);
                    self.rows_of(&mut gradients, maps).enumerate().for_each(|(y, to)| before(picture, y, to, &mut bias));
                    for tile in 0..self.tiles() {
                        gradients_to_planes(&gradients, self.place(at, tile, tiles, maps), &mut planes.from);
                    }
                    if shared.is_some() {
                        self.patches((at, tiles), maps, &gradients, &mut planes.patches);
                    }
                }
                planes.add_kernel_gradient(tiles, &mut sums);
                let Some(shared) = &shared else { continue };
                std::mem::swap(&mut planes.from, &mut planes.patches);
                planes.multiply(tiles, turned);
                std::mem::swap(&mut planes.from, &mut planes.patches);
                for (at, picture) in group.enumerate() {
                    // SAFETY: each picture has one gradient.
                    let result = unsafe { shared.slice(picture * picture_len, picture_len) };
                    self.results(at, tiles, &mut planes, result, &|from: &[T], to: &mut [T]| to.copy_from_slice(from));
                }
            }
            planes.give();
            [padded, gradients].into_iter().for_each(pool::give);
            (sums, bias)
        });
        self.sum(parts)
    }

    /// The parts' gradients, added in order and turned back into a kernel's.
    fn sum<T: Real>(self, parts: Vec<(Vec<T>, Vec<T>)>) -> Own<T> {
        let Self { inputs, maps, .. } = self;
        let mut weight = vec![T::ZERO; maps * inputs * 9];
        let shared = Shared::new(&mut weight);
        parallel::for_each(maps, |map| {
            // SAFETY: each map has its own taps.
            let taps = unsafe { shared.slice(map * inputs * 9, inputs * 9) };
            let mut own = vec![T::ZERO; PLANES * inputs];
            for (plane, own) in own.chunks_exact_mut(inputs).enumerate() {
                for (sums, _) in &parts {
                    let from = &sums[(plane * maps + map) * inputs..][..inputs];
                    own.iter_mut().zip(from).for_each(|(total, part)| *total += *part);
                }
            }
            for (input, taps) in taps.chunks_exact_mut(9).enumerate() {
                let value = |y: usize, x: usize| own[(y * 4 + x) * inputs + input];
                let columns: [[T; 3]; 4] = std::array::from_fn(|x| kernel_gather([value(0, x), value(1, x), value(2, x), value(3, x)]));
                for (y, taps) in taps.chunks_exact_mut(3).enumerate() {
                    taps.copy_from_slice(&kernel_gather(std::array::from_fn(|x| columns[x][y])));
                }
            }
        });
        let mut bias = vec![T::ZERO; maps];
        for (sums, part) in parts {
            bias.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            pool::give(sums);
        }
        Own { weight, bias }
    }
}

/// `taps(row, column)` are the nine numbers of a kernel between two channels.
fn kernel_planes<T: Real>(rows: usize, columns: usize, taps: impl Fn(usize, usize) -> [T; 9] + Sync + Send) -> Kernel<T> {
    let mut planes = vec![T::ZERO; PLANES * rows * columns];
    let shared = Shared::new(&mut planes);
    parallel::for_each(rows, |row| {
        for column in 0..columns {
            let g = taps(row, column);
            let spread: [[T; 4]; 3] = std::array::from_fn(|x| kernel_spread([g[x], g[3 + x], g[6 + x]]));
            for y in 0..4 {
                for (x, value) in kernel_spread([spread[0][y], spread[1][y], spread[2][y]]).into_iter().enumerate() {
                    // SAFETY: each row has its own numbers.
                    unsafe { shared.slice(((y * 4 + x) * rows + row) * columns + column, 1)[0] = value };
                }
            }
        }
    });
    parallel::map(PLANES, |plane| Panels::pack(&planes[plane * rows * columns..][..rows * columns], rows, columns, columns, 1))
}

/// The buffers of one unit of work.
struct Planes<T> {
    inputs: usize,
    maps: usize,
    /// `[16, tiles, inputs]`.
    from: Vec<T>,
    /// `[16, tiles, maps]`.
    to: Vec<T>,
    /// A second one like `from`, for the way back.
    patches: Vec<T>,
    /// Of one tile, `[2, 2, maps]`.
    results: Vec<T>,
}

impl<T: Real> Planes<T> {
    fn new(shape: Winograd, inputs: usize, maps: usize) -> Self {
        let [from, to, patches] = [inputs, maps, inputs].map(|channels| pool::take(PLANES * shape.group_tiles() * channels));
        Self { inputs, maps, from, to, patches, results: vec![T::ZERO; 4 * maps] }
    }

    fn give(self) {
        [self.from, self.to, self.patches].into_iter().for_each(pool::give);
    }

    /// `to = from · kernel`, plane by plane.
    fn multiply(&mut self, tiles: usize, kernel: &[Panels<T>]) {
        let (inputs, maps) = (self.inputs, self.maps);
        for (plane, panels) in kernel.iter().enumerate() {
            let from = &self.from[plane * tiles * inputs..][..tiles * inputs];
            multiply(from, inputs, tiles, panels, &mut self.to[plane * tiles * maps..][..tiles * maps], maps, Start::Zero);
        }
    }

    /// `sums [16, from's channels, to's channels] += fromᵀ · to`, plane by plane.
    fn add_kernel_gradient(&self, tiles: usize, sums: &mut [T]) {
        let (outputs, inputs) = (self.inputs, self.maps);
        for (plane, sums) in sums.chunks_exact_mut(outputs * inputs).enumerate() {
            let from = &self.from[plane * tiles * outputs..][..tiles * outputs];
            add_gradient(from, outputs, &self.to[plane * tiles * inputs..][..tiles * inputs], inputs, tiles, sums);
        }
    }
}
