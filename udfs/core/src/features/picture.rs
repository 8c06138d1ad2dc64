//! One picture: PNG or JPEG bytes → pixels of one size, grey or RGB, a byte each.
//!
//! A picture is decoded only when its header promises no more than [`PIXELS_MAX`] pixels, so that a small file cannot ask
//! for a lot of memory. A picture whose pixels are all grey is grey, however it is stored.
//!
//! Absent on purpose: columns, tables, networks.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::inputs::ImageShape;
use super::png;

/// Pixels of a picture at most.
const PIXELS_MAX: usize = 1 << 24;
/// Pixels along one side at most.
const SIDE_MAX: usize = 1 << 14;

/// A decoded picture: `[height, width, channels]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) shape: ImageShape,
    pub(super) pixels: Vec<u8>,
}

/// Decodes a PNG or a JPEG.
///
/// # Errors
/// The reason, in words for the user.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let picture = if bytes.starts_with(png::SIGNATURE) {
        png::decode(bytes, check_size).map_err(|reason| format!("it is not a valid PNG: {reason}"))?
    } else if bytes.starts_with(b"\xff\xd8") {
        decode_jpeg(bytes)?
    } else {
        return Err(if bytes.is_empty() { "it is empty" } else { "it is neither a PNG nor a JPEG" }.to_owned());
    };
    Ok(picture.without_idle_channels())
}

fn check_size(width: usize, height: usize) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err("it has no pixels".into());
    }
    if width > SIDE_MAX || height > SIDE_MAX || width * height > PIXELS_MAX {
        return Err(format!("its {width} by {height} pixels are more than the {PIXELS_MAX} that are read"));
    }
    Ok(())
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let options = DecoderOptions::default().set_max_width(SIDE_MAX).set_max_height(SIDE_MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let damaged = |error: &dyn std::fmt::Debug| format!("it is not a valid JPEG: {error:?}");
    decoder.decode_headers().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    check_size(width, height)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (space, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|error| damaged(&error))?;
    if pixels.len() != width * height * channels {
        return Err("it is not a valid JPEG: pixels are missing".into());
    }
    Ok(Picture { shape: ImageShape { height, width, channels }, pixels })
}

impl Picture {
    /// Grey as one channel.
    fn without_idle_channels(self) -> Self {
        let coloured = |pixel: &[u8]| pixel[0] != pixel[1] || pixel[0] != pixel[2];
        if self.shape.channels != 3 || self.pixels.chunks_exact(3).any(coloured) {
            return self;
        }
        Self { shape: ImageShape { channels: 1, ..self.shape }, pixels: self.pixels.into_iter().step_by(3).collect() }
    }

    /// No side longer than `side`, in its proportions.
    pub(super) fn within(self, side: usize) -> Self {
        let ImageShape { height, width, channels } = self.shape;
        let longest = height.max(width);
        if longest <= side {
            return self;
        }
        let scaled = |length: usize| ((length * side + longest / 2) / longest).max(1);
        let shape = ImageShape { height: scaled(height), width: scaled(width), channels };
        let mut pixels = Vec::with_capacity(shape.len());
        self.append_as(shape, &mut pixels);
        Self { shape, pixels }
    }

    /// Appends the pixels in another size and number of channels.
    pub(super) fn append_as(&self, shape: ImageShape, to: &mut Vec<u8>) {
        append_as(self.shape, &self.pixels, shape, to);
    }
}

/// Appends the `pixels` of a picture in another size and number of channels.
pub(super) fn append_as(from: ImageShape, pixels: &[u8], shape: ImageShape, to: &mut Vec<u8>) {
    let same_size = (from.height, from.width) == (shape.height, shape.width);
    let resized: Vec<u8>;
    let pixels = if same_size {
        pixels
    } else {
        resized = resize(from, pixels, shape.height, shape.width);
        &resized
    };
    match (from.channels, shape.channels) {
        (1, 3) => to.extend(pixels.iter().flat_map(|grey| [*grey; 3])),
        // ITU-R BT.601.
        (3, 1) => to.extend(pixels.chunks_exact(3).map(|p| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
        })),
        _ => to.extend_from_slice(pixels),
    }
}

/// Linear interpolation, over as many pixels as become one where the picture shrinks: nothing is skipped.
fn resize(from: ImageShape, pixels: &[u8], height: usize, width: usize) -> Vec<u8> {
    let ImageShape { channels, .. } = from;
    let (rows, columns) = (taps(from.height, height), taps(from.width, width));
    let mut between = vec![0f32; from.height * width * channels];
    for (row, to) in pixels.chunks_exact(from.width * channels).zip(between.chunks_exact_mut(width * channels)) {
        for (to, (first, weights)) in to.chunks_exact_mut(channels).zip(&columns) {
            for (pixel, weight) in row[first * channels..].chunks_exact(channels).zip(weights) {
                to.iter_mut().zip(pixel).for_each(|(to, value)| *to += weight * f32::from(*value));
            }
        }
    }
    let mut out = Vec::with_capacity(height * width * channels);
    let mut sums = vec![0f32; width * channels];
    for (first, weights) in &rows {
        sums.fill(0.0);
        for (row, weight) in between.chunks_exact(width * channels).skip(*first).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
        out.extend(sums.iter().map(|sum| (sum + 0.5).clamp(0.0, 255.0) as u8));
    }
    out
}

/// For each place along the new side, the first pixel it is made of and the weights from there on.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let place = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let first = (center - reach).floor().max(0.0) as usize;
        let last = ((center + reach).ceil() as usize).min(from);
        let weight = |pixel: usize| (1.0 - ((pixel as f64 + 0.5 - center) / reach).abs()).max(0.0);
        let total: f64 = (first..last).map(weight).sum();
        (first, (first..last).map(|pixel| (weight(pixel) / total) as f32).collect())
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::png::tests::png;
    use super::*;

    /// 2 by 1 pixels of grey, 76 and 255 but for rounding.
    const JPEG: &[u8] = include_bytes!("../../tests/data/two_pixels.jpg");

    fn grey(height: usize, width: usize) -> ImageShape {
        ImageShape { height, width, channels: 1 }
    }

    #[test]
    fn grey_stored_in_colours_is_grey() {
        let read =
            |samples, pixels: &[u8]| decode(&png(1, 2, samples, pixels)).map(|picture| (picture.shape.channels, picture.pixels)).unwrap();
        assert_eq!(read(3, &[1, 2, 3, 4, 5, 6]), (3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(read(3, &[7, 7, 7, 9, 9, 9]), (1, vec![7, 9]));
        assert_eq!(read(4, &[7, 7, 7, 255, 1, 2, 3, 0]), (1, vec![7, 255]));
    }

    #[test]
    fn a_jpeg_is_read() {
        let picture = decode(JPEG).unwrap();
        assert_eq!(picture.shape, grey(1, 2));
        assert!(picture.pixels[0].abs_diff(76) < 12 && picture.pixels[1].abs_diff(255) < 12, "{:?}", picture.pixels);
        assert!(decode(&JPEG[..JPEG.len() / 2]).is_err());
    }

    #[test]
    fn what_is_no_picture_says_why() {
        let good = png(4, 4, 1, &[5; 16]);
        let mut flipped = good.clone();
        let at = good.len() - 20;
        flipped[at] ^= 0xFF;
        for bytes in [&b""[..], b"GIF89a", b"\xff\xd8", &good[..good.len() / 2], &flipped] {
            let reason = decode(bytes).unwrap_err();
            assert!(reason.starts_with("it "), "{reason}");
        }
        // A header that promises more than is read: nothing is allocated for it.
        let reason = decode(&png(0, 16_000, 1, &[])).unwrap_err();
        assert_eq!(reason, "it is not a valid PNG: it has no pixels");
        assert!(check_size(16_000, 16_000).unwrap_err().contains("16000 by 16000"));
        assert!(check_size(SIDE_MAX + 1, 1).is_err() && check_size(4096, 4096).is_ok());
    }

    #[test]
    fn sizes_and_channels_are_adapted() {
        let picture = Picture { shape: grey(2, 4), pixels: vec![0, 100, 200, 200, 0, 100, 200, 200] };
        let resized = |shape| {
            let mut out = Vec::new();
            picture.append_as(shape, &mut out);
            out
        };
        assert_eq!(resized(grey(2, 4)), picture.pixels);
        // Weights 5, 7, 7 and 5 of 24.
        assert_eq!(resized(grey(1, 1)), [129]);
        assert_eq!(resized(grey(2, 8)).len(), 16);
        assert_eq!(resized(ImageShape { channels: 3, ..grey(2, 4) })[..6], [0, 0, 0, 100, 100, 100]);
        assert_eq!(picture.clone().within(2).shape, grey(1, 2));
        assert_eq!(picture.clone().within(4), picture);
        let red = Picture { shape: ImageShape { height: 1, width: 1, channels: 3 }, pixels: vec![255, 0, 0] };
        let mut out = Vec::new();
        red.append_as(grey(1, 1), &mut out);
        assert_eq!(out, [76]);
        // A flat picture stays flat in any size.
        let flat = Picture { shape: grey(7, 5), pixels: vec![9; 35] };
        let mut out = Vec::new();
        flat.append_as(grey(3, 11), &mut out);
        assert_eq!(out, [9; 33]);
    }
}
