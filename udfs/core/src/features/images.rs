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
use super::spill::{Log, SpillSpace, Window};
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
    /// Empty where they go to a file.
    pixels: Vec<u8>,
    file: Option<Log>,
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
            file: None,
            unreadable: 0,
            first: None,
        }
    }

    /// Moves the pictures to a file, and those that are still to come.
    pub(super) fn spill(&mut self, space: &dyn SpillSpace) -> Result<()> {
        if self.file.is_none() {
            let file = self.file.insert(Log::create(space, "pictures")?);
            for pixels in self.pixels.chunks(1 << 20) {
                file.end().extend_from_slice(pixels);
                file.settle()?;
            }
            self.pixels = Vec::new();
        }
        Ok(())
    }

    /// Takes the picture of row `row` (from 1); `false` = there is none.
    pub(super) fn push(&mut self, row: u64, bytes: Option<&[u8]>) -> Result<bool> {
        let Some(bytes) = bytes else { return Ok(false) };
        match decode(bytes) {
            Ok(picture) => {
                let Picture { shape, pixels } = picture.within(self.side_max);
                self.shapes.push(shape);
                self.ends.push(self.ends.last().copied().unwrap_or(0) + pixels.len());
                match &mut self.file {
                    Some(file) => {
                        file.end().extend(pixels);
                        file.settle()?;
                    }
                    None => self.pixels.extend(pixels),
                }
                Ok(true)
            }
            Err(reason) => {
                self.unreadable += 1;
                self.first.get_or_insert((row, reason));
                Ok(false)
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

    /// Appends the picture of a row in `shape`. `window` reads along where pictures lie in a file: rows ascend.
    pub(super) fn append(&self, row: usize, shape: ImageShape, window: &mut Window, to: &mut Vec<u8>) -> Result<()> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        let end = self.ends[row];
        let pixels = match &self.file {
            Some(file) => window.get(file, start as u64, end - start)?,
            None => &self.pixels[start..end],
        };
        append_as(self.shapes[row], pixels, shape, to);
        Ok(())
    }

    /// Some rows in `shape`, in memory; rows in a file ascend.
    pub(super) fn encode(&self, rows: impl ExactSizeIterator<Item = usize>, shape: ImageShape) -> Result<Vec<u8>> {
        let (mut window, mut pixels) = (Window::default(), Vec::with_capacity(rows.len() * shape.len()));
        for row in rows {
            self.append(row, shape, &mut window, &mut pixels)?;
        }
        Ok(pixels)
    }

    /// The bytes it holds in memory, and will hold again when encoded.
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
    let error = Error::new(Code::DatatypeMismatch, format!("column \"{name}\" is of type {type} but must be bytea"))
        .detail("A picture is the whole content of a PNG or JPEG file.");
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            error.hint(format!("Where it names files, let the source read them: SELECT pg_read_binary_file({name}) AS {name}, …"))
        }
        _ => error,
    }
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
    use super::super::spill::testing::Space;
    use super::*;

    fn grey(height: usize, width: usize, value: u8) -> Vec<u8> {
        png(height, width, 1, &vec![value; height * width])
    }

    fn encoded(pictures: &Pictures, rows: &[usize], shape: ImageShape) -> Vec<u8> {
        pictures.encode(rows.iter().copied(), shape).unwrap()
    }

    #[test]
    fn pictures_read_alike_from_memory_and_from_files() {
        let space = Space::default();
        let (mut here, mut there) = (Pictures::new("photo".into(), None), Pictures::new("photo".into(), None));
        for row in 0..40u8 {
            let picture = grey(3 + usize::from(row % 3), 4, row);
            assert!(here.push(u64::from(row), Some(&picture)).unwrap() && there.push(u64::from(row), Some(&picture)).unwrap());
            if row == 17 {
                there.spill(&space).unwrap();
            }
        }
        let (shape, rows) = (here.plan().shape, (0..40).collect::<Vec<_>>());
        assert_eq!(here.plan(), there.plan());
        assert_eq!(encoded(&here, &rows, shape), encoded(&there, &rows, shape));
        assert!(there.pixels.is_empty() && space.files() == 1);
    }

    #[test]
    fn the_most_common_size_and_the_colours_of_the_data() {
        let mut pictures = Pictures::new("photo".into(), None);
        assert!(pictures.push(1, Some(&grey(3, 2, 7))).unwrap());
        assert!(!pictures.push(2, None).unwrap());
        assert!(!pictures.push(3, Some(b"nonsense")).unwrap());
        assert!(pictures.push(4, Some(&grey(5, 5, 8))).unwrap());
        assert!(pictures.push(5, Some(&grey(3, 2, 9))).unwrap());
        assert_eq!(pictures.plan().shape, ImageShape { height: 3, width: 2, channels: 1 });
        assert_eq!(encoded(&pictures, &[2, 1], pictures.plan().shape), [[9; 6], [8; 6]].concat());
        let facts = pictures.facts().unwrap();
        assert!(facts.contains("row 3") && facts.contains("neither a PNG nor a JPEG"), "{facts}");
        pictures.push(6, Some(&png(1, 1, 3, &[1, 2, 3]))).unwrap();
        assert_eq!(pictures.plan().shape.channels, 3);
    }

    /// What training read and what scoring reads of the same bytes is the same.
    #[test]
    fn scoring_takes_the_same_steps() {
        let pixels: Vec<u8> = (0..200 * 90).map(|i| (i * 37 % 251) as u8).collect();
        let photo = png(200, 90, 1, &pixels);
        for size in [None, Some(17)] {
            let mut pictures = Pictures::new("photo".into(), size);
            assert!(pictures.push(1, Some(&photo)).unwrap());
            let plan = pictures.plan();
            let mut scored = Vec::new();
            assert!(plan.encode(Some(&photo), &mut scored));
            assert_eq!(scored, encoded(&pictures, &[0], plan.shape));
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
