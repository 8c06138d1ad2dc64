//! Which columns of a labelled table are learned from: the user's own words, or all that can be features.

use super::roles::{Role, malformed, role_of, split_outside_quotes, unquote};
use crate::error::Result;

/// The columns of a labelled table by role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableColumns {
    /// The picture.
    pub image: Option<String>,
    /// Free texts.
    pub texts: Vec<String>,
    /// The columns to learn from besides; `None` = every one that can be a feature.
    pub features: Option<Vec<String>>,
}

impl TableColumns {
    /// Reads `auto`, or `image=photo, text=title|review, extra=price|brand`; `auto, image=photo` takes all other columns too.
    /// The roles of events mean nothing here and are left aside, except that naming them alone is `auto`.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) for a malformed text.
    pub fn parse(columns: &str) -> Result<Self> {
        let (mut table, mut auto) = (Self::default(), false);
        for part in split_outside_quotes(columns, ',').into_iter().map(str::trim).filter(|part| !part.is_empty()) {
            if part.eq_ignore_ascii_case("auto") {
                auto = true;
                continue;
            }
            let Some((key, names)) = part.split_once('=') else {
                return Err(malformed(columns, &format!("\"{part}\" is not of the form role=column")));
            };
            let role = role_of(key.trim(), columns)?;
            let names: Vec<String> = split_outside_quotes(names, '|').into_iter().map(|name| unquote(name.trim())).collect();
            if names.iter().any(String::is_empty) {
                return Err(malformed(columns, &format!("no column is named for the role {}", role.name())));
            }
            match role {
                Role::Image if table.image.is_some() || names.len() > 1 => {
                    return Err(malformed(columns, "the role image is given to more than one column"));
                }
                Role::Image => table.image = names.into_iter().next(),
                Role::Text => table.texts.extend(names),
                Role::Extra => table.features.get_or_insert_default().extend(names),
                _ => {}
            }
        }
        if auto {
            table.features = None;
        } else if table.image.is_some() || !table.texts.is_empty() {
            table.features.get_or_insert_default();
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn words_name_the_picture_and_what_else_is_read() {
        let read = |columns: &str| TableColumns::parse(columns).map(|table| (table.image.unwrap_or_default(), table.features));
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(read("auto").unwrap(), (String::new(), None));
        assert_eq!(read("").unwrap(), (String::new(), None));
        assert_eq!(read("image=photo").unwrap(), ("photo".into(), names(&[])));
        assert_eq!(read("auto, image=\"my, photo\"").unwrap(), ("my, photo".into(), None));
        assert_eq!(read("image=photo, extra=price|brand").unwrap(), ("photo".into(), names(&["price", "brand"])));
        assert_eq!(read("text=review").unwrap(), (String::new(), names(&[])));
        assert_eq!(TableColumns::parse("auto, text=title | review").unwrap().texts, ["title", "review"]);
        assert_eq!(read("user=customer, time=ts").unwrap(), (String::new(), None));
        for wrong in ["photo", "picture=photo", "image=a, image=b", "image=a|b", "image="] {
            assert_eq!(read(wrong).unwrap_err().code, Code::InvalidParameter, "{wrong}");
        }
    }
}
