//! A column of pictures: which one it is, the pictures of a training while they are collected, and how they become the
//! bytes that networks read.
//!
//! Life of a picture: `bytea` → [`picture::decode`](super::picture::decode) → no side longer than the plan's limit → kept
//! as it is until the most common size is known → resized to it. Scoring takes the same steps at once. NULL and bytes
//! that are no picture are no error: the row is left out and counted, and scored as NULL.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::inputs::ImageShape;
use super::picture::{Picture, append_as, decode};
use super::roles::sql_type;
use crate::error::{Code, Error, Result};

/// Pixels along a side at most, unless the option `image_size` says so.
pub(super) const SIDE_DEFAULT: usize = 64;

/// The picture of a row; part of a model's encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImagePlan {
    /// Which column.
    pub(super) column: String,
    /// Every picture is first shrunk until no side is longer.
    pub(super) side_max: usize,
    /// What networks read.
    pub(super) shape: ImageShape,
}

impl ImagePlan {
    /// Appends a picture; `false` = there is none, nothing appended.
    pub(super) fn encode(&self, bytes: Option<&[u8]>, to: &mut Vec<u8>) -> bool {
        let picture = bytes.and_then(|bytes| decode(bytes).ok());
        if let Some(picture) = &picture {
            picture.clone().within(self.side_max).append_as(self.shape, to);
        }
        picture.is_some()
    }
}

/// The pictures of a training.
#[derive(Debug, Clone)]
pub(super) struct Pictures {
    pub(super) column: String,
    side_max: usize,
    /// The one size, when the user named it.
    side: Option<usize>,
    shapes: Vec<ImageShape>,
    ends: Vec<usize>,
    pixels: Vec<u8>,
    unreadable: u64,
    /// Row and reason of the first that could not be read.
    first: Option<(u64, String)>,
}

impl Pictures {
    pub(super) fn new(column: String, image_size: Option<u32>) -> Self {
        let side = image_size.map(|side| side.max(1) as usize);
        Self {
            column,
            side_max: side.unwrap_or(SIDE_DEFAULT),
            side,
            shapes: Vec::new(),
            ends: Vec::new(),
            pixels: Vec::new(),
            unreadable: 0,
            first: None,
        }
    }

    /// Takes the picture of row `row` (from 1); `false` = there is none.
    pub(super) fn push(&mut self, row: u64, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes else { return false };
        match decode(bytes) {
            Ok(picture) => {
                let Picture { shape, pixels } = picture.within(self.side_max);
                self.shapes.push(shape);
                self.pixels.extend(pixels);
                self.ends.push(self.pixels.len());
                true
            }
            Err(reason) => {
                self.unreadable += 1;
                self.first.get_or_insert((row, reason));
                false
            }
        }
    }

    /// What a network shall read: the size asked for, else the most common one (of equally common ones the smallest);
    /// grey when all are.
    pub(super) fn plan(&self) -> ImagePlan {
        let channels = self.shapes.iter().map(|shape| shape.channels).max().unwrap_or(1);
        let (height, width) = match self.side {
            Some(side) => (side, side),
            None => {
                let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
                for shape in &self.shapes {
                    *counts.entry((shape.height, shape.width)).or_default() += 1;
                }
                counts.into_iter().map(|(size, count)| (std::cmp::Reverse(count), size)).min().map_or((1, 1), |(_, size)| size)
            }
        };
        ImagePlan { column: self.column.clone(), side_max: self.side_max, shape: ImageShape { height, width, channels } }
    }

    /// Some rows in `shape`.
    pub(super) fn encode(&self, rows: impl ExactSizeIterator<Item = usize>, shape: ImageShape) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(rows.len() * shape.len());
        for row in rows {
            let start = if row == 0 { 0 } else { self.ends[row - 1] };
            append_as(self.shapes[row], &self.pixels[start..self.ends[row]], shape, &mut pixels);
        }
        pixels
    }

    /// The bytes it holds, and will hold again when encoded.
    pub(super) fn bytes(&self) -> usize {
        2 * self.pixels.len() + self.shapes.len() * (size_of::<ImageShape>() + size_of::<usize>())
    }

    /// What a person should know of those that could not be read.
    pub(super) fn facts(&self) -> Option<String> {
        let (row, reason) = self.first.as_ref()?;
        Some(format!(" {} pictures of \"{}\" could not be read; the first is that of row {row}: {reason}.", self.unreadable, self.column))
    }
}

/// The bytes of a column.
///
/// # Errors
/// `DatatypeMismatch` when it holds something else.
pub(super) fn bytes_of<'a>(array: &'a ArrayRef, name: &str) -> Result<Vec<Option<&'a [u8]>>> {
    Ok(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().iter().collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().collect(),
        DataType::BinaryView => array.as_binary_view().iter().collect(),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().iter().collect(),
        DataType::Null => vec![None; array.len()],
        other => return Err(no_bytes(name, other)),
    })
}

/// The error for a column that holds no pictures.
pub(super) fn no_bytes(name: &str, data_type: &DataType) -> Error {
    let r#type = sql_type(data_type);
    Error::new(Code::DatatypeMismatch, format!("column \"{name}\" is of type {type} but must be bytea"))
        .detail("A picture is the whole content of a PNG or JPEG file.")
}

/// Whether a column of this type can hold pictures.
pub(super) fn holds_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Null)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, BinaryViewArray, Int32Array, LargeBinaryArray};

    use super::super::png::tests::png;
    use super::*;

    fn grey(height: usize, width: usize, value: u8) -> Vec<u8> {
        png(height, width, 1, &vec![value; height * width])
    }

    #[test]
    fn the_most_common_size_and_the_colours_of_the_data() {
        let mut pictures = Pictures::new("photo".into(), None);
        assert!(pictures.push(1, Some(&grey(3, 2, 7))));
        assert!(!pictures.push(2, None));
        assert!(!pictures.push(3, Some(b"nonsense")));
        assert!(pictures.push(4, Some(&grey(5, 5, 8))));
        assert!(pictures.push(5, Some(&grey(3, 2, 9))));
        assert_eq!(pictures.plan().shape, ImageShape { height: 3, width: 2, channels: 1 });
        assert_eq!(pictures.encode([2, 1].into_iter(), pictures.plan().shape), [[9; 6], [8; 6]].concat());
        let facts = pictures.facts().unwrap();
        assert!(facts.contains("row 3") && facts.contains("neither a PNG nor a JPEG"), "{facts}");
        pictures.push(6, Some(&png(1, 1, 3, &[1, 2, 3])));
        assert_eq!(pictures.plan().shape.channels, 3);
    }

    /// What training read and what scoring reads of the same bytes is the same.
    #[test]
    fn scoring_takes_the_same_steps() {
        let pixels: Vec<u8> = (0..200 * 90).map(|i| (i * 37 % 251) as u8).collect();
        let photo = png(200, 90, 1, &pixels);
        for size in [None, Some(17)] {
            let mut pictures = Pictures::new("photo".into(), size);
            assert!(pictures.push(1, Some(&photo)));
            let plan = pictures.plan();
            let mut scored = Vec::new();
            assert!(plan.encode(Some(&photo), &mut scored));
            assert_eq!(scored, pictures.encode([0].into_iter(), plan.shape));
            assert_eq!(scored.len(), plan.shape.len());
            assert!(!plan.encode(Some(b"no"), &mut scored) && !plan.encode(None, &mut scored));
            assert_eq!(scored.len(), plan.shape.len());
        }
    }

    #[test]
    fn every_kind_of_bytes_is_read() {
        let values = vec![Some(&b"ab"[..]), None];
        let arrays: [ArrayRef; 3] = [
            Arc::new(BinaryArray::from(values.clone())),
            Arc::new(LargeBinaryArray::from(values.clone())),
            Arc::new(BinaryViewArray::from(values.clone())),
        ];
        for array in &arrays {
            assert!(holds_bytes(array.data_type()));
            assert_eq!(bytes_of(array, "photo").unwrap(), values);
        }
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        assert_eq!(bytes_of(&numbers, "photo").unwrap_err().code, Code::DatatypeMismatch);
    }
}
