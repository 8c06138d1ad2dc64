//! Audiences as values: sets of users as bitmaps, numeric tags as bit-sliced indexes.
//!
//! A bitmap is `bytea` in roaring's portable 64-bit format, an index is `bytea` of its own (`kernels::bitmap` has both formats);
//! tables keep them, `=` compares them as sets, and other systems read them. Names are ClickHouse's in snake case, with the
//! spellings of ClickHouse, Doris, StarRocks and Hologres as aliases; so `group_bitmap(id)` is a count, as there, and
//! `group_bitmap_state(id)` the bitmap.
//!
//! Life of an aggregate: a batch's ids go into the collectors of their groups, which sort and join them to bitmaps as they grow
//! → partial states travel as bytes and merge in any order → a count or a bitmap. Life of a scalar: an argument that is the
//! same for all rows is read once, others row by row → kernel → bytes, numbers or booleans. Bytes that are no bitmap are error
//! 22P02, NULL gives NULL.
//!
//! Stored audiences (`CREATE AUDIENCE`) are bitmaps whose ids are numbers that the program gives to users; they come through
//! [`AudienceProvider`](crate::context::AudienceProvider). `audience`, `audience_diff` and `audience_profile` show them as rows, in
//! pages; `audience_bitmap`, `audience_users` and `in_audience` as values. A call names an audience's newest version or `name@3`,
//! looked up when the statement runs. Ids that are linked are one member, in all of them; what is stored stays as it is.
//!
//! What this room must never know: models, where audiences are stored, how users are numbered.

mod arguments;
mod audience_bitmap;
mod audience_diff;
mod audience_profile;
mod audience_users;
mod bitmap_and;
mod bitmap_and_cardinality;
mod bitmap_andnot;
mod bitmap_andnot_cardinality;
mod bitmap_build;
mod bitmap_cardinality;
mod bitmap_contains;
mod bitmap_has_all;
mod bitmap_has_any;
mod bitmap_max;
mod bitmap_min;
mod bitmap_or;
mod bitmap_or_cardinality;
mod bitmap_subset_in_range;
mod bitmap_subset_limit;
mod bitmap_to_array;
mod bitmap_xor;
mod bitmap_xor_cardinality;
mod bsi_add;
mod bsi_between;
mod bsi_build;
mod bsi_eq;
mod bsi_filter;
mod bsi_ge;
mod bsi_get;
mod bsi_gt;
mod bsi_ids;
mod bsi_le;
mod bsi_lt;
mod bsi_max;
mod bsi_merge;
mod bsi_min;
mod bsi_ne;
mod bsi_sum;
mod bsi_top_k;
mod group_bitmap;
mod group_bitmap_and;
mod group_bitmap_and_state;
mod group_bitmap_or;
mod group_bitmap_or_state;
mod group_bitmap_state;
mod group_bitmap_xor;
mod group_bitmap_xor_state;
mod in_audience;
mod members;
mod named;
mod states;
mod stored;
mod sub_bitmap;
mod to_bitmap;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use super::MlContext;
use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package {
        scalars: vec![
            Arc::new(ScalarUDF::new_from_impl(bitmap_and::BitmapAnd::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_and_cardinality::BitmapAndCardinality::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_andnot::BitmapAndnot::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_andnot_cardinality::BitmapAndnotCardinality::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_build::BitmapBuild::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_cardinality::BitmapCardinality::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_contains::BitmapContains::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_has_all::BitmapHasAll::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_has_any::BitmapHasAny::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_max::BitmapMax::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_min::BitmapMin::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_or::BitmapOr::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_or_cardinality::BitmapOrCardinality::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_subset_in_range::BitmapSubsetInRange::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_subset_limit::BitmapSubsetLimit::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_to_array::BitmapToArray::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_xor::BitmapXor::new())),
            Arc::new(ScalarUDF::new_from_impl(bitmap_xor_cardinality::BitmapXorCardinality::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_add::BsiAdd::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_between::BsiBetween::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_eq::BsiEq::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_filter::BsiFilter::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_ge::BsiGe::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_get::BsiGet::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_gt::BsiGt::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_ids::BsiIds::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_le::BsiLe::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_lt::BsiLt::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_max::BsiMax::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_min::BsiMin::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_ne::BsiNe::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_sum::BsiSum::new())),
            Arc::new(ScalarUDF::new_from_impl(bsi_top_k::BsiTopK::new())),
            Arc::new(ScalarUDF::new_from_impl(sub_bitmap::SubBitmap::new())),
            Arc::new(ScalarUDF::new_from_impl(to_bitmap::ToBitmap::new())),
        ],
        aggregates: vec![
            Arc::new(AggregateUDF::new_from_impl(bsi_build::BsiBuild::new())),
            Arc::new(AggregateUDF::new_from_impl(bsi_merge::BsiMerge::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap::GroupBitmap::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_and::GroupBitmapAnd::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_and_state::GroupBitmapAndState::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_or::GroupBitmapOr::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_or_state::GroupBitmapOrState::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_state::GroupBitmapState::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_xor::GroupBitmapXor::new())),
            Arc::new(AggregateUDF::new_from_impl(group_bitmap_xor_state::GroupBitmapXorState::new())),
        ],
        windows: Vec::new(),
        relations: vec![Arc::new(audience_diff::AudienceDiff), Arc::new(audience_profile::AudienceProfile), Arc::new(members::Members)],
    }
}

/// The scalar functions over stored audiences.
pub fn scalars(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(audience_bitmap::AudienceBitmap::new(context))),
        Arc::new(ScalarUDF::new_from_impl(audience_users::AudienceUsers::new(context))),
        Arc::new(ScalarUDF::new_from_impl(in_audience::InAudience::new(context))),
    ]
}
