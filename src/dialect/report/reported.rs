//! What the usage objects of one answer have said so far: its figures, and the tier, mode and region that they are priced by.

use super::super::json::{each_element, each_member, text};
use super::super::{canonical_tier, priced_region};
use super::figures::{Beside, Figures, Habit};
use super::{Calls, ServedPart, short};
use crate::ids::ModelName;
use crate::price::tier_in_region;
use crate::tokens::Usage;

/// The usage that an answer has reported.
#[derive(Debug)]
pub(super) struct Reported {
    figures: Option<Figures>,
    /// Anthropic's last list of iterations. [`Absurd`] when one of its figures is.
    iterations: Result<Vec<(Option<ModelName>, Figures)>, Absurd>,
    /// An absurd figure was reported, now or before.
    absurd: bool,
    service_tier: Option<Box<str>>,
    /// What the images of a response took that is billed by a model of their own, and that model.
    image_tool: Option<Box<(ModelName, Figures)>>,
    /// Anthropic's fast mode.
    fast: bool,
    /// The one region in which Anthropic kept the request.
    region: Option<Box<str>>,
}

/// One of the figures is beyond all reason, so no sum is made of them.
#[derive(Debug)]
struct Absurd;

const TIER_BYTES_MAX: usize = 64;
/// An answer has a handful of iterations.
const ITERATIONS_MAX: usize = 1000;

impl Reported {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            figures: None,
            iterations: Ok(Vec::new()),
            absurd: false,
            service_tier: None,
            image_tool: None,
            fast: false,
            region: None,
        }
    }

    /// Takes one usage object; says whether it was a report.
    pub(super) fn take(&mut self, (later, beside): (Figures, Beside<'_>)) -> bool {
        self.tier(beside.service_tier);
        if let Some(speed) = beside.speed.and_then(text) {
            self.fast = speed == "fast";
        }
        if let Some(region) = beside.region.and_then(text) {
            self.region = priced_region(&region).map(Into::into);
        }
        self.absurd |= later.is_absurd();
        let is_report = later.is_report();
        if !is_report && !later.is_absurd() {
            return false;
        }
        if let Some(iterations) = beside.iterations {
            self.take_iterations(iterations);
        }
        match &mut self.figures {
            Some(figures) => figures.merge(&later),
            None => self.figures = Some(later),
        }
        is_report
    }

    /// Anthropic's `usage.iterations`: each is a call of some model on the way to the one answer. The last list counts.
    fn take_iterations(&mut self, list: &str) {
        let mut iterations = Vec::new();
        let mut absurd = false;
        each_element(list, |iteration| {
            let (figures, beside) = Figures::read(iteration);
            absurd |= figures.is_absurd();
            if figures.is_report() && iterations.len() < ITERATIONS_MAX {
                let model = beside
                    .model
                    .and_then(text)
                    .filter(|model| !model.is_empty());
                iterations.push((model.map(|model| ModelName::new(&model)), figures));
            }
        });
        if !iterations.is_empty() {
            self.absurd |= absurd;
            self.iterations = if absurd { Err(Absurd) } else { Ok(iterations) };
        }
    }

    /// Takes a response's `tool_usage`: `{"image_gen":{"input_tokens":…}}`. The model that made the images stands in `tools`,
    /// where the response repeats how it was asked.
    pub(super) fn take_image_tool(&mut self, tool_usage: &str, tools: &str) {
        let mut figures = None;
        each_member(tool_usage, |name, value| {
            if name == "image_gen" {
                figures = Some(Figures::read(value).0);
            }
        });
        let Some(figures) = figures.filter(|figures| figures.is_report() && !figures.is_absurd())
        else {
            return;
        };
        each_element(tools, |tool| {
            let (mut makes_images, mut model) = (false, None);
            each_member(tool, |name, value| match &*name {
                "type" => makes_images = value == "\"image_generation\"",
                "model" => model = text(value).filter(|model| !model.is_empty()),
                _ => {}
            });
            if let Some(model) = model.filter(|_| makes_images) {
                let named = (ModelName::new(&model), figures.clone());
                self.image_tool = Some(Box::new(named));
            }
        });
    }

    /// Whether the tokens of a response's images are reported.
    pub(super) fn names_image_tool(&self) -> bool {
        let figures = self.image_tool.as_deref().map(|(_, figures)| figures);
        figures.is_some_and(|figures| !figures.usage(Habit::Chat).is_zero())
    }

    /// Takes a `service_tier`, a raw JSON value.
    pub(super) fn tier(&mut self, raw: Option<&str>) {
        let Some(tier) = raw.and_then(text).filter(|tier| !tier.is_empty()) else {
            return;
        };
        let tier = canonical_tier(&tier);
        if self.service_tier.as_deref() != Some(tier) {
            self.service_tier = short(tier, TIER_BYTES_MAX);
        }
    }

    /// Whether an absurd figure was reported, now or before.
    pub(super) fn was_absurd(&self) -> bool {
        self.absurd
    }

    /// The tier served. Anthropic's fast mode and regions have prices of their own, beside those of the service tiers.
    pub(super) fn served_tier(&mut self) -> Option<Box<str>> {
        let tier = match self.fast {
            true => Some("fast".into()),
            false => self.service_tier.take(),
        };
        match &self.region {
            Some(region) => Some(tier_in_region(tier.as_deref(), region).into()),
            None => tier,
        }
    }

    /// The usage and its parts: the answer's own report, the iterations that it may leave out, and the images made beside it. `None` when nothing was
    /// reported, or something absurd that no later report has put right.
    pub(super) fn usage(
        &self,
        habit: Habit,
        served_model: Option<&ModelName>,
        calls: &Calls,
    ) -> Option<(Usage, Vec<ServedPart>)> {
        let figures = self.figures.as_ref();
        let figures = figures.filter(|figures| !figures.is_absurd())?;
        let iterations = self.iterations.as_ref().ok()?;
        let total = figures.usage(habit);
        let mut parts: Vec<ServedPart> = Vec::new();
        let mut add = |model: Option<ModelName>, usage: Usage| match parts
            .iter_mut()
            .find(|part| part.model == model)
        {
            Some(part) => part.usage += usage,
            None => parts.push(ServedPart {
                model,
                usage,
                by_tool: false,
            }),
        };
        let mut sum = Usage::default();
        for (model, figures) in iterations {
            let usage = figures.usage(habit);
            sum += usage;
            add(model.as_ref().or(served_model).cloned(), usage);
        }
        let mut all = total.zip(&sum, u64::max);
        calls.add_to(&mut all);
        let rest = all.zip(&sum, u64::saturating_sub);
        if !rest.is_zero() || all.is_zero() {
            add(served_model.cloned(), rest);
        }
        if let Some((model, figures)) = self.image_tool.as_deref() {
            let usage = figures.usage(Habit::Chat);
            if !usage.is_zero() {
                all += usage;
                parts.push(ServedPart {
                    model: Some(model.clone()),
                    usage,
                    by_tool: true,
                });
            }
        }
        Some((all, parts))
    }
}
