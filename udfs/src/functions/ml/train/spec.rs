//! What a training call asks for, checked before anything is read.

use datafusion::prelude::SessionConfig;

use crate::error::{Code, Error, Result};
use crate::features::options::{Dimension, Ensemble, Freeze, Oversample};
use crate::features::{Options, TableColumns, Target};
use crate::functions::relation::{Arguments, DAY_US, Kind, Parameter};
use crate::functions::settings::MlSettings;
use crate::kernels::nearest::nearest;
use crate::models::Architecture;
use crate::train::reads_files;

pub(crate) const TARGET: Parameter = Parameter::optional(
    "target",
    Kind::Text,
    "'next_event'",
    "What to predict: next_event, next_item, an event type, ladder(view<cart<purchase), count(<event>), sum(<column>[, <event>]) or \
     column(<label>); none for an autoencoder or a gan, which learn without labels.",
);
pub(crate) const HORIZON: Parameter =
    Parameter::optional("horizon", Kind::Duration, "'7 days'", "How far the target looks ahead of the anchor.");
pub(crate) const COLUMNS: Parameter = Parameter::optional(
    "columns",
    Kind::Text,
    "'auto'",
    "Which column plays which role: auto recognises the usual names, or 'user=customer_id, time=ts, event=action, …'. A labelled \
     table: auto reads every column, 'image=photo' pictures (PNG or JPEG in bytea) alone, 'text=title|review' free texts alone, \
     'image=photo, extra=price|brand' some columns beside them, 'auto, image=photo, text=review' all. Of events, the image is the \
     latest one up to the anchor, a text the words of the latest ones.",
);
pub(crate) const ARCH: Parameter = Parameter::optional(
    "arch",
    Kind::Text,
    "'auto'",
    "logreg, dnn or wide_deep on features and texts; rnn, gru, lstm, cnn or transformer on event sequences, with the features, \
     pictures and texts of the same moment beside them; cnn on pictures or texts of a table; mf (matrix factorisation) and two_tower \
     for next_item; auto trains the sensible candidates and keeps the best on validation. Without labels: autoencoder learns an \
     embedding of users or rows, gan to make rows or pictures like those of the source (generate_rows).",
);
pub(crate) const OPTIONS: Parameter = Parameter::optional(
    "options",
    Kind::Json,
    "'{}'",
    "Training options as JSON; each may also be written as a named argument or set with SET ml.<key>.",
);

/// When a new version becomes the active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activate {
    /// When it is better than the active one on its own test window.
    IfBetter,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Activate {
    fn parse(text: &str) -> Result<Self> {
        match text.to_lowercase().as_str() {
            "if_better" => Ok(Self::IfBetter),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            other => Err(Error::invalid(format!("argument \"activate\" cannot be \"{other}\"")).hint("It is if_better, always or never.")),
        }
    }
}

/// What to learn, from which columns, how.
#[derive(Debug, Clone)]
pub(crate) struct Lesson {
    pub(crate) target: Target,
    pub(crate) horizon_us: i64,
    /// Role words, `auto` by default.
    pub(crate) columns: String,
    /// The same for a labelled table.
    pub(crate) table_columns: TableColumns,
    /// `None` = auto.
    pub(crate) architecture: Option<Architecture>,
    pub(crate) options: Options,
}

impl Lesson {
    /// Reads the arguments that every training function has.
    pub(crate) fn new(args: &Arguments, config: &SessionConfig) -> Result<Self> {
        let options = MlSettings::options(config, args)?;
        let architecture = architecture(args.text("arch").unwrap_or("auto"))?;
        let usual = if architecture.is_some_and(|arch| !arch.is_supervised()) { "none" } else { "next_event" };
        let target = Target::parse(args.text("target").unwrap_or(usual))?;
        supported(&options)?;
        unlabelled(&target, architecture, &options)?;
        let columns = args.text("columns").unwrap_or("auto").to_owned();
        let table_columns = match &target {
            Target::Column(_) => TableColumns::parse(&columns)?,
            Target::None => TableColumns::parse(&columns)
                .or_else(|error| if names_events(&columns) { Ok(TableColumns::default()) } else { Err(error) })?,
            _ => TableColumns::default(),
        };
        if let (Some(arch), Target::Column(_)) = (architecture, &target)
            && arch.is_sequential()
            && !(arch == Architecture::Cnn && (table_columns.image.is_some() || !table_columns.texts.is_empty()))
        {
            let hint = match arch {
                Architecture::Cnn => {
                    "Name a column of pictures or texts, columns => 'image=photo' or 'text=review', or use arch => 'dnn', 'logreg' or 'auto'."
                }
                _ => "Use arch => 'dnn', 'logreg' or 'auto'.",
            };
            return Err(Error::invalid(format!("architecture \"{arch}\" reads event sequences, and a labelled table has none")).hint(hint));
        }
        if let Some(arch) = architecture.filter(|arch| arch.is_retrieval() && target != Target::NextItem) {
            return Err(Error::invalid(format!("architecture \"{arch}\" chooses among items")).hint("Use target => 'next_item'."));
        }
        if options.privacy.is_some() {
            private(&options, architecture, &TableColumns::parse(&columns)?)?;
        }
        stacked(&options, architecture, !matches!(target, Target::Column(_)), table_columns.image.is_some())?;
        let horizon_us = match &target {
            Target::Column(_) => 0,
            Target::None if architecture == Some(Architecture::Gan) => 0,
            _ => args.positive_micros("horizon")?.unwrap_or(7 * DAY_US),
        };
        let lesson = Self { target, horizon_us, columns, table_columns, architecture, options };
        super::federated::check(&lesson)?;
        Ok(lesson)
    }

    /// Whether it can learn from rows in temporary files.
    pub(crate) fn may_spill(&self) -> bool {
        let reads_files = match self.architecture {
            Some(architecture) => reads_files(architecture),
            // Of many items the candidates are others.
            None => self.target != Target::NextItem,
        };
        reads_files && self.options.oversample != Oversample::Smote && self.options.federated.is_none()
    }

    /// How many architectures are tried at most, for progress.
    pub(crate) fn candidates(&self) -> usize {
        match (self.architecture, self.label()) {
            (Some(_), _) => 1,
            (None, Some(_)) => match (&self.table_columns.image, &self.table_columns.features) {
                (_, _) if !self.table_columns.texts.is_empty() => 3,
                (None, _) => 2,
                (Some(_), Some(features)) if features.is_empty() => 1,
                (Some(_), _) => 3,
            },
            (None, None) => 3,
        }
    }

    /// The label column of a labelled table.
    pub(crate) fn label(&self) -> Option<&str> {
        match &self.target {
            Target::Column(label) => Some(label),
            _ => None,
        }
    }
}

/// Everything a call of `train_profile_model` asks for.
#[derive(Debug, Clone)]
pub(crate) struct TrainSpec {
    pub(crate) model: String,
    pub(crate) lesson: Lesson,
    pub(crate) activate: Activate,
    pub(crate) wait: bool,
    pub(crate) if_stale_us: Option<i64>,
}

impl TrainSpec {
    pub(crate) fn new(args: &Arguments, config: &SessionConfig) -> Result<Self> {
        let model = args.required_text("model")?.to_owned();
        if model.contains('@') {
            return Err(Error::invalid(format!("\"{model}\" cannot be the name of a model"))
                .detail("A name does not contain \"@\"; a training makes the next version by itself."));
        }
        Ok(Self {
            model,
            lesson: Lesson::new(args, config)?,
            activate: Activate::parse(args.text("activate").unwrap_or("if_better"))?,
            wait: args.boolean("wait").unwrap_or(true),
            if_stale_us: args.positive_micros("if_stale")?,
        })
    }
}

fn architecture(name: &str) -> Result<Option<Architecture>> {
    let name = name.to_lowercase();
    if name == "auto" {
        return Ok(None);
    }
    if let Some(found) = Architecture::parse(&name) {
        return Ok(Some(found));
    }
    let names: Vec<&str> = std::iter::once("auto").chain(Architecture::ALL.iter().map(|a| a.name())).collect();
    let error = Error::invalid(format!("unknown architecture \"{name}\"")).detail(format!("Available are {}.", names.join(", ")));
    Err(match nearest(&name, names.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    })
}

/// Whether role words speak of events.
pub(super) fn names_events(columns: &str) -> bool {
    ["user", "time"].iter().any(|role| columns.split(',').any(|part| part.split('=').next().is_some_and(|key| key.trim() == *role)))
}

/// Networks that learn without labels take no label, and the others need one.
fn unlabelled(target: &Target, architecture: Option<Architecture>, options: &Options) -> Result<()> {
    let arch = match architecture {
        Some(arch) if !arch.is_supervised() => arch,
        _ if *target == Target::None => {
            return Err(Error::invalid("the target none needs an architecture that learns without labels")
                .hint("Use arch => 'autoencoder' for embeddings, or arch => 'gan' to generate rows."));
        }
        _ => return Ok(()),
    };
    let labelled = matches!(target, Target::Column(_));
    if *target != Target::None && !(labelled && arch == Architecture::Gan) {
        let hint = match arch {
            Architecture::Gan => "Use target => 'none', or target => 'column(<label>)' to generate rows of given classes.",
            _ => "Use target => 'none'.",
        };
        return Err(Error::invalid(format!("architecture \"{arch}\" learns without labels: the target cannot be {target}")).hint(hint));
    }
    let gan = arch == Architecture::Gan;
    let refused = [
        (options.privacy.is_some(), "privacy"),
        (options.oversample != Oversample::None, "oversample"),
        (gan && options.tune.is_some(), "tune"),
        (gan && options.warm_from.is_some(), "warm_from"),
        (gan && options.checkpoint_every.is_some(), "checkpoint_every"),
    ];
    match refused.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(Error::new(Code::FeatureNotSupported, format!("architecture \"{arch}\" has no option \"{option}\""))),
        None => Ok(()),
    }
}

/// What privacy rules out is refused before anything is read.
fn private(options: &Options, architecture: Option<Architecture>, columns: &TableColumns) -> Result<()> {
    if architecture.is_none() {
        return Err(Error::invalid("a private training needs one architecture")
            .detail("A choice between several would spend the budget several times.")
            .hint("For example arch => 'logreg'."));
    }
    if options.tune.is_some() {
        return Err(Error::invalid("a private training cannot be tuned").detail("Every trial would spend the budget once more."));
    }
    let refused = [
        (options.ensemble.is_some(), "ensemble", "Every member would spend the budget once more."),
        (options.folds.is_some(), "folds", "Every fold would spend the budget once more."),
        (options.oversample != Oversample::None, "oversample", "A row that is repeated tells more about its user than the budget allows."),
        (options.checkpoint_every.is_some(), "checkpoint_every", "Noise that a checkpoint keeps could be taken off again."),
    ];
    for (given, option, reason) in refused {
        if given {
            return Err(Error::invalid(format!("a private training cannot have the option \"{option}\"")).detail(reason));
        }
    }
    if !columns.texts.is_empty() {
        return Err(
            Error::invalid("a private training cannot read texts").detail("The words that a model knows would tell what its users wrote.")
        );
    }
    if columns.image.is_some() {
        return Err(Error::invalid("a private training cannot read pictures")
            .detail("Their network normalises each batch, which mixes what users say."));
    }
    Ok(())
}

/// Names inside options that only the networks know.
fn supported(options: &Options) -> Result<()> {
    if let Some(Dimension::Choice(names)) = options.tune.as_ref().and_then(|tune| tune.space.get("arch")) {
        for name in names {
            let name = name.as_str().unwrap_or_default();
            if architecture(name)?.is_some_and(|found| !found.is_supervised()) {
                return Err(Error::invalid(format!("\"{name}\" cannot be in the space of option \"tune\""))
                    .detail("It learns without labels and cannot be compared with others."));
            }
            if architecture(name)?.is_none() {
                return Err(Error::invalid("\"auto\" cannot be in the space of option \"tune\"").hint("Name architectures."));
            }
        }
    }
    if options.freeze != Freeze::AllButHead(false) && options.warm_from.is_none() {
        return Err(
            Error::invalid("option \"freeze\" needs \"warm_from\"").detail("Parameters that start at random and never move learn nothing.")
        );
    }
    Ok(())
}

/// A stack names its architectures itself.
fn stacked(options: &Options, arch: Option<Architecture>, reads_events: bool, reads_pictures: bool) -> Result<()> {
    let Some(Ensemble::Stacking { members, .. }) = &options.ensemble else { return Ok(()) };
    for name in members {
        let Some(member) = architecture(name)? else {
            return Err(Error::invalid("\"auto\" cannot be a member of a stack").hint("Name architectures."));
        };
        if member.is_sequential() && !reads_events && !(member == Architecture::Cnn && reads_pictures) {
            return Err(Error::invalid(format!("architecture \"{member}\" reads event sequences, and a labelled table has none"))
                .hint("Stack dnn and logreg."));
        }
    }
    if let Some(arch) = arch {
        return Err(Error::invalid("stacking names its architectures itself").detail(format!("The argument arch is \"{arch}\".")));
    }
    if options.tune.is_some() {
        return Err(
            Error::invalid("option \"tune\" cannot be combined with stacking").hint("Tune each architecture by itself, or use bagging.")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::relation::Argument;

    fn spec(pairs: &[(&'static str, Argument)]) -> Result<TrainSpec> {
        let mut args = Arguments::new("train_profile_model");
        args.set("model", Argument::Text("m".into()));
        for (name, value) in pairs {
            args.set(name, value.clone());
        }
        TrainSpec::new(&args, &SessionConfig::new())
    }

    fn text(value: &str) -> Argument {
        Argument::Text(value.into())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let spec = spec(&[]).unwrap();
        assert_eq!((spec.lesson.target, spec.lesson.horizon_us), (Target::NextEvent, 7 * DAY_US));
        assert_eq!((spec.activate, spec.wait, spec.if_stale_us), (Activate::IfBetter, true, None));
        assert_eq!(spec.lesson.architecture, None);
    }

    #[test]
    fn every_architecture_can_be_asked_for_and_its_name_is_documented() {
        for architecture in Architecture::ALL {
            let target = if architecture.is_supervised() { "next_item" } else { "none" };
            let asked = [("arch", text(architecture.name())), ("target", text(target))];
            assert_eq!(spec(&asked).unwrap().lesson.architecture, Some(architecture));
            assert!(ARCH.doc.contains(architecture.name()), "{architecture} is not documented");
        }
    }

    #[test]
    fn mistakes_have_their_code() {
        let code = |pairs: &[(&'static str, Argument)]| spec(pairs).unwrap_err().code;
        assert_eq!(code(&[("arch", text("lstn"))]), Code::InvalidParameter);
        assert_eq!(code(&[("arch", text("gan")), ("target", text("purchase"))]), Code::InvalidParameter);
        assert_eq!(code(&[("arch", text("autoencoder")), ("target", text("column(y)"))]), Code::InvalidParameter);
        assert_eq!(code(&[("arch", text("gan")), ("options", text("{\"privacy\": {\"epsilon\": 1}}"))]), Code::FeatureNotSupported);
        assert_eq!(code(&[("arch", text("autoencoder")), ("columns", text("nonsense"))]), Code::InvalidParameter);
        assert_eq!(code(&[("activate", text("perhaps"))]), Code::InvalidParameter);
        assert_eq!(code(&[("options", text("{\"epohcs\": 3}"))]), Code::InvalidParameter);
        assert_eq!(code(&[("options", text("{\"schedule\": \"linear\"}"))]), Code::InvalidParameter);
        assert_eq!(code(&[("options", text("{\"warmup\": -1}"))]), Code::InvalidParameter);
        assert_eq!(code(&[("target", text("column(y)")), ("arch", text("transformer"))]), Code::InvalidParameter);
        assert_eq!(code(&[("options", text("{"))]), Code::InvalidText);
        assert_eq!(code(&[("options", text("[1]"))]), Code::InvalidText);
        assert_eq!(code(&[("model", text("m@3"))]), Code::InvalidParameter);
        assert_eq!(code(&[("horizon", Argument::Micros(0))]), Code::InvalidParameter);
        assert_eq!(code(&[("target", text("column(y)")), ("arch", text("gru"))]), Code::InvalidParameter);
        assert_eq!(code(&[("target", text("none"))]), Code::InvalidParameter);
        assert_eq!(code(&[("arch", text("mf"))]), Code::InvalidParameter);
        assert_eq!(code(&[("arch", text("two_tower")), ("target", text("purchase"))]), Code::InvalidParameter);
    }
}
