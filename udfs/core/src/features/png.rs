//! PNG (ISO/IEC 15948) as pixels of 8 bits: every colour type, bit depth and both orders of rows. Transparency is shown on
//! white; 16 bits are cut to 8. Written are files of 8 bits, grey or RGB.
//!
//! Nothing is allocated that the header does not ask for, and the caller looks at the header first.

use std::io::{Read, Write};

use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::inputs::ImageShape;
use super::picture::Picture;
use crate::error::{Error, Result as OwnResult};

/// What every PNG begins with.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Where the pixels of each pass of an interlaced picture begin, and how far they are apart: x, y, right, down.
const ADAM7: [[usize; 4]; 7] = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Color {
    Grey,
    Rgb,
    Palette,
    GreyAlpha,
    Rgba,
}

impl Color {
    fn samples(self) -> usize {
        match self {
            Self::Grey | Self::Palette => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Channels without transparency.
    fn channels(self) -> usize {
        if matches!(self, Self::Grey | Self::GreyAlpha) { 1 } else { 3 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    width: usize,
    height: usize,
    depth: usize,
    color: Color,
    interlaced: bool,
}

impl Header {
    fn read(content: &[u8]) -> Result<Self, String> {
        let &[w0, w1, w2, w3, h0, h1, h2, h3, depth, color, compression, filter, interlace] = content else {
            return Err("its header is damaged".into());
        };
        let color = match (color, depth) {
            (0, 1 | 2 | 4 | 8 | 16) => Color::Grey,
            (2, 8 | 16) => Color::Rgb,
            (3, 1 | 2 | 4 | 8) => Color::Palette,
            (4, 8 | 16) => Color::GreyAlpha,
            (6, 8 | 16) => Color::Rgba,
            _ => return Err(format!("it has colour type {color} with {depth} bits, which PNG does not know")),
        };
        if compression != 0 || filter != 0 || interlace > 1 {
            return Err("its header asks for a method that PNG does not know".into());
        }
        let length = |bytes: [u8; 4]| u32::from_be_bytes(bytes) as usize;
        let (width, height) = (length([w0, w1, w2, w3]), length([h0, h1, h2, h3]));
        Ok(Self { width, height, depth: usize::from(depth), color, interlaced: interlace == 1 })
    }

    /// Bytes of a row of `width` pixels, without its filter.
    fn row(self, width: usize) -> usize {
        (width * self.color.samples() * self.depth).div_ceil(8)
    }

    /// Bytes from a sample to the same one of the pixel before.
    fn pixel(self) -> usize {
        (self.color.samples() * self.depth / 8).max(1)
    }

    fn passes(self) -> Vec<[usize; 4]> {
        if self.interlaced { ADAM7.to_vec() } else { vec![[0, 0, 1, 1]] }
    }

    /// Width and height of a pass.
    fn size(self, [x, y, right, down]: [usize; 4]) -> (usize, usize) {
        (self.width.saturating_sub(x).div_ceil(right), self.height.saturating_sub(y).div_ceil(down))
    }
}

/// The parts of a file that make pixels.
struct Parts {
    header: Header,
    palette: Vec<u8>,
    transparency: Vec<u8>,
    data: Vec<u8>,
}

/// Decodes a file that begins with [`SIGNATURE`]; `check` sees width and height before anything is allocated for them.
///
/// # Errors
/// The reason, in words for the user.
pub(super) fn decode(bytes: &[u8], check: impl Fn(usize, usize) -> Result<(), String>) -> Result<Picture, String> {
    let parts = parts(bytes, check)?;
    let Header { width, height, color, .. } = parts.header;
    let mut data = ZlibDecoder::new(parts.data.as_slice());
    let channels = color.channels();
    let mut pixels = vec![0; width * height * channels];
    for pass in parts.header.passes() {
        let (pass_width, pass_height) = parts.header.size(pass);
        if pass_width == 0 {
            continue;
        }
        let len = parts.header.row(pass_width);
        let (mut before, mut row, mut filter) = (vec![0; len], vec![0; len], [0]);
        for at in 0..pass_height {
            let read = data.read_exact(&mut filter).and_then(|()| data.read_exact(&mut row));
            read.map_err(|_| "its pixels are damaged or cut off".to_owned())?;
            unfilter(filter[0], parts.header.pixel(), &before, &mut row)?;
            let [x, y, right, down] = pass;
            let to = &mut pixels[(y + at * down) * width * channels..][..width * channels];
            for pixel in 0..pass_width {
                let to = &mut to[(x + pixel * right) * channels..][..channels];
                parts.pixel(&row, pixel, to)?;
            }
            std::mem::swap(&mut before, &mut row);
        }
    }
    Ok(Picture { shape: ImageShape { height, width, channels }, pixels })
}

fn parts(bytes: &[u8], check: impl Fn(usize, usize) -> Result<(), String>) -> Result<Parts, String> {
    let mut rest = &bytes[SIGNATURE.len().min(bytes.len())..];
    let mut found: Option<Parts> = None;
    loop {
        let (kind, content, more) = chunk(rest)?;
        rest = more;
        match (kind, &mut found) {
            (b"IHDR", None) => {
                let header = Header::read(content)?;
                check(header.width, header.height)?;
                found = Some(Parts { header, palette: Vec::new(), transparency: Vec::new(), data: Vec::new() });
            }
            (b"PLTE", Some(parts)) => parts.palette = content.to_vec(),
            (b"tRNS", Some(parts)) => parts.transparency = content.to_vec(),
            (b"IDAT", Some(parts)) => parts.data.extend_from_slice(content),
            (b"IEND", Some(_)) => break,
            (_, None) => return Err("it does not begin with a header".into()),
            // The first letter of what may be left out is small.
            ([first, ..], Some(_)) if first.is_ascii_lowercase() => {}
            _ => return Err("it has a part that PNG does not know".into()),
        }
    }
    found.ok_or_else(|| "it has no header".to_owned())
}

/// Kind and content of the next chunk, and what follows it.
fn chunk(bytes: &[u8]) -> Result<(&[u8; 4], &[u8], &[u8]), String> {
    let cut_off = || "it is cut off".to_owned();
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (checked, rest) = rest.split_at_checked(length.saturating_add(4)).ok_or_else(cut_off)?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let mut crc = Crc::new();
    crc.update(checked);
    if crc.sum() != u32::from_be_bytes(*sum) {
        return Err("a part of it is damaged: its check sum is wrong".into());
    }
    let (kind, content) = checked.split_first_chunk::<4>().ok_or_else(cut_off)?;
    Ok((kind, content, rest))
}

/// Undoes a row's filter; `pixel` is the distance to the pixel on the left.
fn unfilter(filter: u8, pixel: usize, above: &[u8], row: &mut [u8]) -> Result<(), String> {
    let left = |row: &[u8], at: usize| at.checked_sub(pixel).map_or(0, |at| row[at]);
    for at in 0..row.len() {
        let predicted = match filter {
            0 => return Ok(()),
            1 => left(row, at),
            2 => above[at],
            3 => ((u16::from(left(row, at)) + u16::from(above[at])) / 2) as u8,
            4 => paeth(left(row, at), above[at], left(above, at)),
            _ => return Err("a row has a filter that PNG does not know".into()),
        };
        row[at] = row[at].wrapping_add(predicted);
    }
    Ok(())
}

/// The neighbour nearest to `left + above − corner`.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i16::from);
    let estimate = a + b - c;
    let [to_a, to_b, to_c] = [a, b, c].map(|value| (estimate - value).abs());
    if to_a <= to_b && to_a <= to_c {
        left
    } else if to_b <= to_c {
        above
    } else {
        corner
    }
}

impl Parts {
    /// A sample of a row as it is stored.
    fn sample(&self, row: &[u8], at: usize) -> u16 {
        match self.header.depth {
            8 => u16::from(row[at]),
            16 => u16::from_be_bytes([row[2 * at], row[2 * at + 1]]),
            depth => {
                let bit = at * depth;
                let shift = 8 - depth - bit % 8;
                (u16::from(row[bit / 8]) >> shift) & ((1 << depth) - 1)
            }
        }
    }

    /// A sample as 8 bits.
    fn scaled(&self, sample: u16) -> u8 {
        match self.header.depth {
            16 => (sample >> 8) as u8,
            depth => (sample * (255 / ((1u16 << depth) - 1))) as u8,
        }
    }

    /// Pixel `at` of a row.
    fn pixel(&self, row: &[u8], at: usize, to: &mut [u8]) -> Result<(), String> {
        let (samples, channels) = (self.header.color.samples(), to.len());
        let sample = |of: usize| self.sample(row, at * samples + of);
        let alpha = match self.header.color {
            Color::Palette => {
                let index = usize::from(sample(0));
                let color = self.palette.chunks_exact(3).nth(index).ok_or("a pixel has a colour beyond the palette")?;
                to.copy_from_slice(color);
                self.transparency.get(index).copied().unwrap_or(255)
            }
            Color::Grey | Color::Rgb => {
                (0..channels).for_each(|of| to[of] = self.scaled(sample(of)));
                // One colour may stand for nothing.
                let hidden = self.transparency.len() == 2 * channels
                    && (0..channels).all(|of| sample(of) == u16::from_be_bytes([self.transparency[2 * of], self.transparency[2 * of + 1]]));
                if hidden { 0 } else { 255 }
            }
            Color::GreyAlpha | Color::Rgba => {
                (0..channels).for_each(|of| to[of] = self.scaled(sample(of)));
                self.scaled(sample(channels))
            }
        };
        if alpha < 255 {
            let alpha = u32::from(alpha);
            to.iter_mut().for_each(|value| *value = ((u32::from(*value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
        }
        Ok(())
    }
}

/// Pixels of 8 bits, grey or RGB, as a file. Each row has the filter after which its numbers are smallest.
///
/// # Errors
/// `Internal` when there are not as many pixels as the shape says, or none.
pub(super) fn encode(shape: ImageShape, pixels: &[u8]) -> OwnResult<Vec<u8>> {
    let ImageShape { height, width, channels } = shape;
    let size = [width, height].map(|length| u32::try_from(length).unwrap_or(0));
    if pixels.len() != shape.len() || pixels.is_empty() || !matches!(channels, 1 | 3) || size.contains(&0) {
        return Err(Error::internal("a picture has another size than its shape says"));
    }
    let len = width * channels;
    let mut before = vec![0; len];
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks_exact(len) {
        let filtered = (0..5).map(|kind| filter(kind, channels, &before, row));
        let best = filtered.min_by_key(|row| row[1..].iter().map(|value| u64::from((*value as i8).unsigned_abs())).sum::<u64>());
        packed.write_all(&best.unwrap_or_default()).map_err(|error| Error::internal(format!("a picture cannot be packed: {error}")))?;
        before.copy_from_slice(row);
    }
    let packed = packed.finish().map_err(|error| Error::internal(format!("a picture cannot be packed: {error}")))?;
    let mut bytes = SIGNATURE.to_vec();
    let [width, height] = size.map(u32::to_be_bytes);
    put(&mut bytes, b"IHDR", &[&width[..], &height[..], &[8, if channels == 1 { 0 } else { 2 }, 0, 0, 0]].concat());
    put(&mut bytes, b"IDAT", &packed);
    put(&mut bytes, b"IEND", b"");
    Ok(bytes)
}

/// A row behind the number of its filter.
fn filter(kind: u8, pixel: usize, above: &[u8], row: &[u8]) -> Vec<u8> {
    let left = |row: &[u8], at: usize| at.checked_sub(pixel).map_or(0, |at| row[at]);
    let predicted = |at: usize| match kind {
        0 => 0,
        1 => left(row, at),
        2 => above[at],
        3 => ((u16::from(left(row, at)) + u16::from(above[at])) / 2) as u8,
        _ => paeth(left(row, at), above[at], left(above, at)),
    };
    std::iter::once(kind).chain((0..row.len()).map(|at| row[at].wrapping_sub(predicted(at)))).collect()
}

/// Appends a chunk with its check sum.
fn put(to: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) {
    to.extend((content.len() as u32).to_be_bytes());
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(content);
    to.extend(kind);
    to.extend(content);
    to.extend(crc.sum().to_be_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file of colour type, bits and rows, each with its filter in front; `more` are chunks before the pixels.
    fn file(size: [u32; 2], color: u8, depth: u8, interlaced: bool, more: &[(&[u8; 4], &[u8])], rows: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        let [width, height] = size.map(u32::to_be_bytes);
        put(&mut bytes, b"IHDR", &[&width[..], &height[..], &[depth, color, 0, 0, u8::from(interlaced)]].concat());
        more.iter().for_each(|(kind, content)| put(&mut bytes, kind, content));
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
        packed.write_all(rows).unwrap();
        // In two parts, as long ones are.
        let packed = packed.finish().unwrap();
        put(&mut bytes, b"IDAT", &packed[..3]);
        put(&mut bytes, b"IDAT", &packed[3..]);
        put(&mut bytes, b"IEND", b"");
        bytes
    }

    /// A PNG of 8 bits and of one (grey), two (with alpha), three (RGB) or four samples a pixel.
    pub(in crate::features) fn png(height: usize, width: usize, samples: usize, pixels: &[u8]) -> Vec<u8> {
        let rows: Vec<u8> = pixels.chunks(width * samples).flat_map(|row| [&[0], row].concat()).collect();
        file([width as u32, height as u32], [0, 4, 2, 6][samples - 1], 8, false, &[], &rows)
    }

    fn read(bytes: &[u8]) -> Result<(usize, Vec<u8>), String> {
        decode(bytes, |_, _| Ok(())).map(|picture| (picture.shape.channels, picture.pixels))
    }

    #[test]
    fn colours_depths_and_transparency() {
        let one =
            |color, depth, more: &[(&[u8; 4], &[u8])], row: &[u8]| read(&file([2, 1], color, depth, false, more, &[&[0], row].concat()));
        assert_eq!(one(0, 8, &[], &[3, 4]), Ok((1, vec![3, 4])));
        assert_eq!(one(0, 1, &[], &[0b1000_0000]), Ok((1, vec![255, 0])));
        assert_eq!(one(0, 2, &[], &[0b1001_0000]), Ok((1, vec![170, 85])));
        assert_eq!(one(0, 4, &[], &[0xF1]), Ok((1, vec![255, 17])));
        assert_eq!(one(0, 16, &[], &[0x12, 0x34, 0xFF, 0x00]), Ok((1, vec![0x12, 0xFF])));
        assert_eq!(one(2, 8, &[], &[1, 2, 3, 4, 5, 6]), Ok((3, vec![1, 2, 3, 4, 5, 6])));
        assert_eq!(one(2, 16, &[], &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]), Ok((3, vec![1, 2, 3, 4, 5, 6])));
        let palette: (&[u8; 4], &[u8]) = (b"PLTE", &[10, 20, 30, 40, 50, 60]);
        assert_eq!(one(3, 8, &[palette], &[1, 0]), Ok((3, vec![40, 50, 60, 10, 20, 30])));
        assert_eq!(one(3, 4, &[palette], &[0x10]), Ok((3, vec![40, 50, 60, 10, 20, 30])));
        // On white: what is transparent is white, half of black is grey.
        assert_eq!(one(3, 8, &[palette, (b"tRNS", &[0])], &[1, 0]), Ok((3, vec![40, 50, 60, 255, 255, 255])));
        assert_eq!(one(4, 8, &[], &[10, 0, 0, 128]), Ok((1, vec![255, 127])));
        assert_eq!(one(6, 8, &[], &[1, 2, 3, 255, 9, 9, 9, 0]), Ok((3, vec![1, 2, 3, 255, 255, 255])));
        assert_eq!(one(0, 8, &[(b"tRNS", &[0, 4])], &[3, 4]), Ok((1, vec![3, 255])));
        // What may be left out is left out.
        assert_eq!(one(0, 8, &[(b"gAMA", &[0, 0, 1, 2])], &[3, 4]), Ok((1, vec![3, 4])));
        assert!(one(3, 8, &[palette], &[2, 0]).unwrap_err().contains("palette"));
        for wrong in [one(0, 3, &[], &[0]), one(5, 8, &[], &[0]), one(0, 8, &[(b"NEWS", &[])], &[3, 4])] {
            assert!(wrong.unwrap_err().contains("PNG does not know"));
        }
    }

    /// Every filter, by hand: each row of the second picture is predicted from its neighbours.
    #[test]
    fn filters() {
        let plain = [[10u8, 20, 30], [11, 22, 33], [12, 24, 36], [200, 100, 50], [7, 90, 180]];
        for filter in 0..5u8 {
            let mut rows = Vec::new();
            for (at, row) in plain.iter().enumerate() {
                rows.push(filter);
                let above = |x: usize| if at == 0 { 0 } else { plain[at - 1][x] };
                for x in 0..3 {
                    let (left, corner) = if x == 0 { (0, 0) } else { (row[x - 1], above(x - 1)) };
                    let predicted = match filter {
                        0 => 0,
                        1 => left,
                        2 => above(x),
                        3 => ((u16::from(left) + u16::from(above(x))) / 2) as u8,
                        _ => paeth(left, above(x), corner),
                    };
                    rows.push(row[x].wrapping_sub(predicted));
                }
            }
            assert_eq!(read(&file([3, 5], 0, 8, false, &[], &rows)), Ok((1, plain.concat())), "filter {filter}");
        }
        assert_eq!((paeth(5, 9, 7), paeth(5, 9, 5), paeth(9, 5, 5), paeth(0, 0, 9)), (7, 9, 9, 0));
        assert!(read(&file([1, 1], 0, 8, false, &[], &[5, 0])).is_err());
    }

    /// What is written is read again, whatever the filters; and flat pictures are small.
    #[test]
    fn written_files_are_read() {
        for (height, width, channels) in [(1, 1, 1), (5, 7, 1), (9, 4, 3), (28, 28, 1)] {
            let shape = ImageShape { height, width, channels };
            let noise: Vec<u8> = (0..shape.len()).map(|at| (at * at * 31 + at * 7) as u8).collect();
            let ramp: Vec<u8> = (0..shape.len()).map(|at| (at / channels % width + at / channels / width) as u8 * 3).collect();
            for pixels in [noise, ramp, vec![9; shape.len()]] {
                let bytes = encode(shape, &pixels).unwrap();
                assert_eq!(read(&bytes).unwrap(), (channels, pixels));
            }
        }
        let shape = ImageShape { height: 64, width: 64, channels: 3 };
        assert!(encode(shape, &vec![200; shape.len()]).unwrap().len() < 200);
        assert!(encode(shape, &[1, 2]).is_err());
    }

    /// The seven passes hold every pixel once.
    #[test]
    fn interlaced_rows() {
        for (width, height) in [(1u32, 1u32), (3, 2), (8, 8), (11, 9)] {
            let pixels: Vec<u8> = (0..width * height).map(|i| (i * 31) as u8).collect();
            let mut rows = Vec::new();
            for [x, y, right, down] in ADAM7 {
                for y in (y..height as usize).step_by(down) {
                    let row: Vec<u8> = (x..width as usize).step_by(right).map(|x| pixels[y * width as usize + x]).collect();
                    if !row.is_empty() {
                        rows.push(0);
                        rows.extend(row);
                    }
                }
            }
            assert_eq!(read(&file([width, height], 0, 8, true, &[], &rows)), Ok((1, pixels)));
        }
    }

    /// What Pillow writes: a palette of few bits with transparency, and rows with filters of its choice.
    #[test]
    fn files_of_another_program() {
        let (channels, pixels) = read(include_bytes!("../../tests/data/gradient.png")).unwrap();
        let expected: Vec<u8> =
            (0..16 * 12usize).flat_map(|i| [i % 16 * 16, i / 16 * 20, (i % 16 + i / 16) * 7].map(|x| x as u8)).collect();
        assert_eq!((channels, pixels), (3, expected));
        let (channels, pixels) = read(include_bytes!("../../tests/data/palette.png")).unwrap();
        assert_eq!((channels, pixels), (3, [[255, 0, 0], [0, 128, 255], [255, 255, 255], [255, 0, 0], [0, 128, 255]].concat()));
    }

    proptest::proptest! {
        /// Damage is an error or another picture, never a panic.
        #[test]
        fn damaged_files_are_survived(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut bytes = include_bytes!("../../tests/data/palette.png").to_vec();
            let len = bytes.len();
            bytes[at % len] ^= byte;
            let _ = read(&bytes);
            assert!(read(&bytes[..cut % len]).is_err());
            // The same with sums that are right: the header and the pixels say what they like.
            let rows: Vec<u8> = (0..40).map(|i: u8| i.wrapping_mul(byte)).collect();
            let _ = read(&file([at as u32 % 9, cut as u32 % 9], byte % 7, 1 << (byte % 5), byte & 1 == 1, &[(b"PLTE", &rows[..6])], &rows));
        }
    }
}
