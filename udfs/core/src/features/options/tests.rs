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
        "precision" => json!("tf32"),
        "warm_from" => json!("shopper@2"),
        "freeze" | "keep_partial" | "nesterov" => json!(true),
        "loss" => json!("focal"),
        "oversample" => json!("smote"),
        "ensemble" => json!({"kind": "bagging", "members": 3}),
        "bidirectional" => json!(true),
        "activation" => json!("relu"),
        "text_model" => json!("cnn"),
        "numeric_embedding" => json!("periodic"),
        "crosses" => json!(["a*b"]),
        "unseen_weight" => json!(0.5),
        "anchor_every" => json!("1 day"),
        "split_time" => json!("month"),
        "valid_fraction" | "test_fraction" => json!(0.25),
        "privacy" => json!({"epsilon": 3}),
        "federated" => json!({"sources": ["a", "b"]}),
        "augment" => json!("none"),
        "dropout" | "sample" | "l2" | "learning_rate" | "momentum" | "label_smoothing" => json!(0.5),
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
    assert_eq!((options.epochs, options.l2, options.freeze.clone(), options.seed), (Some(12), Some(1e-4), Freeze::AllButHead(true), 9));
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
        ("{\"precision\": \"bf61\"}", "meant \"bf16\""),
        ("{\"seed\": -1}", "non-negative"),
        ("{\"anchor_every\": \"soon\"}", "7 days"),
        ("{\"class_weights\": {\"a\": 0}}", "positive"),
        ("{\"schedule\": \"onecycl\"}", "meant \"onecycle\""),
        ("{\"warmup\": 1.5}", "whole number of steps"),
        ("{\"loss\": \"hinge\"}", "cross_entropy, focal"),
        ("{\"gamma\": -1}", "from 0 to 10"),
        ("{\"oversample\": \"smot\"}", "meant \"smote\""),
        ("{\"momentum\": 1}", "0.999"),
        ("{\"freeze\": [\"\"]}", "beginnings of parameter names"),
        ("{\"checkpoint_every\": \"soon\"}", "30 seconds"),
        ("{\"checkpoint_every\": 0}", "30 seconds"),
        ("{\"tune\": 3}", "JSON object"),
        ("{\"tune\": {\"trails\": 3}}", "meant \"trials\""),
        ("{\"tune\": {\"trials\": 0}}", "tune.trials"),
        ("{\"tune\": {\"strategy\": \"grid\"}}", "random, halving"),
        ("{\"tune\": {\"space\": {\"learning_rat\": [1]}}}", "meant \"learning_rate\""),
        ("{\"tune\": {\"space\": {\"max_seq_len\": [1]}}}", "cannot be searched"),
        ("{\"tune\": {\"space\": {\"layers\": [0]}}}", "from 1 to"),
        ("{\"tune\": {\"space\": {\"layers\": []}}}", "Give a list"),
        ("{\"tune\": {\"space\": {\"l2\": {\"min\": 0, \"max\": 1, \"scale\": \"log\"}}}}", "positive on a logarithmic"),
        ("{\"tune\": {\"space\": {\"l2\": {\"min\": 1, \"max\": 0.1}}}}", "must not be above"),
        ("{\"ensemble\": {}}", "needs a kind"),
        ("{\"ensemble\": {\"kind\": \"boosting\"}}", "bagging, stacking"),
        ("{\"ensemble\": {\"kind\": \"bagging\", \"members\": 1}}", "from 2 to 32"),
        ("{\"ensemble\": {\"kind\": \"stacking\", \"members\": [\"dnn\"]}}", "from 2 to 8"),
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

#[test]
fn structured_options_are_read_and_old_ones_still_are() {
    let options = Options::from_json(
        r#"{"tune": {"trials": 4, "strategy": "halving", "space": {"learning_rate": {"min": 1e-4, "max": 1e-2}, "layers": {"min": 1, "max": 3},
            "optimizer": ["adam", "sgd"]}}, "freeze": ["embedding"], "checkpoint_every": "30 seconds"}"#,
    )
    .unwrap();
    let tune = options.tune.unwrap();
    assert_eq!((tune.trials, tune.strategy, tune.max_seconds), (4, Strategy::Halving, None));
    assert_eq!(tune.space["learning_rate"], Dimension::Range { min: 1e-4, max: 1e-2, scale: Spread::Log });
    assert_eq!(tune.space["layers"], Dimension::Range { min: 1.0, max: 3.0, scale: Spread::Linear });
    assert_eq!(tune.space["optimizer"], Dimension::Choice(vec![json!("adam"), json!("sgd")]));
    assert_eq!(options.freeze, Freeze::Prefixes(vec!["embedding".into()]));
    assert_eq!(options.checkpoint_every, Some(CheckpointEvery::Seconds(30.0)));
    // As versions stored them before freeze took names.
    let old: Options = serde_json::from_value(json!({"freeze": false, "warmup_steps": 20, "tune": null})).unwrap();
    assert_eq!(old, Options { warmup: Some(20.0), ..Options::default() });
}
