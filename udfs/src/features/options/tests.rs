use serde_json::json;

use super::*;
use crate::error::Code;

#[test]
fn every_documented_key_can_be_set_and_nothing_else() {
    let good = |key: &str| match key {
        "optimizer" => json!("adam"),
        "schedule" => json!("cosine"),
        "class_weights" => json!("balanced"),
        "exclude" => json!(["hour_*"]),
        "missing" => json!("mean"),
        "outliers" => json!("iqr"),
        "scale" => json!("robust"),
        "tune" => json!({"trials": 3}),
        "device" => json!("cuda:1"),
        "warm_from" => json!("shopper@2"),
        "freeze" | "keep_partial" => json!(true),
        "anchor_every" => json!("1 day"),
        "split_time" => json!("month"),
        "augment" => json!("none"),
        "dropout" | "sample" | "l2" | "learning_rate" => json!(0.5),
        _ => json!(7),
    };
    for option in OPTION_KEYS {
        let mut options = Options::default();
        options.set(option.key, &good(option.key)).unwrap();
        assert_ne!(options, Options::default(), "{} changes nothing", option.key);
        let stored = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&stored).unwrap(), options);
    }
    let fields = serde_json::to_value(Options::default()).unwrap();
    let fields: Vec<&String> = fields.as_object().unwrap().keys().collect();
    assert_eq!(fields, OPTION_KEYS.iter().map(|option| option.key).collect::<Vec<_>>());
}

#[test]
fn text_as_set_gives_it() {
    let mut options = Options::default();
    for (key, value) in
        [("epochs", "12"), ("l2", "1e-4"), ("freeze", "on"), ("exclude", "a, b"), ("class_weights", "{\"buy\": 3}"), ("seed", "9")]
    {
        options.set(key, &json!(value)).unwrap();
    }
    assert_eq!((options.epochs, options.l2, options.freeze, options.seed), (Some(12), Some(1e-4), true, 9));
    assert_eq!(options.exclude, ["a", "b"]);
    assert_eq!(options.class_weights, ClassWeights::Weights(vec![("buy".into(), 3.0)]));
    options.set("epochs", &json!("auto")).unwrap();
    assert_eq!(options.epochs, None);
}

#[test]
fn mistakes() {
    for (text, part) in [
        ("{\"epocs\": 3}", "\"epochs\""),
        ("{\"horizon\": 3}", "unknown option"),
        ("{\"epochs\": 0}", "from 1 to"),
        ("{\"epochs\": 1.5}", "from 1 to"),
        ("{\"epochs\": true}", "from 1 to"),
        ("{\"sample\": 0}", "above 0"),
        ("{\"dropout\": 1}", "0.99"),
        ("{\"optimizer\": \"rmsprop\"}", "adamw"),
        ("{\"device\": \"tpu\"}", "cuda:<n>"),
        ("{\"seed\": -1}", "non-negative"),
        ("{\"anchor_every\": \"soon\"}", "7 days"),
        ("{\"class_weights\": {\"a\": 0}}", "positive"),
        ("[1]", "JSON object"),
        ("{epochs}", "not valid JSON"),
    ] {
        let error = Options::from_json(text).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter, "{text}");
        assert!(format!("{error:?}").replace('\\', "").contains(part), "{text}: {error:?}");
    }
    assert!(Options::from_json("").is_ok());
    assert!(Options::from_json("{}").is_ok());
}

#[test]
fn intervals() {
    const DAY: i64 = 86_400_000_000;
    for (text, us) in [
        ("7 days", 7 * DAY),
        ("1 week", 7 * DAY),
        ("36 hours", DAY * 3 / 2),
        ("1 day 12:00:00", DAY * 3 / 2),
        ("30d", 30 * DAY),
        ("1 month", 30 * DAY),
        ("90 min", DAY / 16),
        ("00:00:01", 1_000_000),
        ("0.5 seconds", 500_000),
    ] {
        assert_eq!(parse_interval_us(text).unwrap(), us, "{text}");
    }
    for text in ["", "days", "7", "-7 days", "7 parsecs", "0 days", "9999999 years", "1:x", "NaN days"] {
        assert_eq!(parse_interval_us(text).unwrap_err().code, Code::InvalidParameter, "{text}");
    }
}
