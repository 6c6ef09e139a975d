"""What the report's figures and tables mean and how to read them."""

from __future__ import annotations

CAPTIONS = {
    "overview": (
        "Spectra before and after {rejection:g} % background rejection",
        (
            "Filled: before the cut; points: after it, both normalised to one, with statistical "
            "errors. A tagger that sculpts gives the background a peak where the signal has its "
            "own."
        ),
    ),
    "spectra": (
        "{tagger}: spectra at several working points",
        (
            "Below: ratio of the normalised spectra. In background, passing over failing events: "
            "flat at one, within its bars, is no sculpting. In signal, passing over all: a slope "
            "there is no fault."
        ),
    ),
    "tradeoff": (
        "Sculpting against separation",
        (
            "Down and to the right is better, as far as the floor: the JSD of a tagger that does "
            "not sculpt at all, from statistics alone. Filled: sculpting is resolved. Open with "
            "an arrow: it is not, and the marker is the 95 % upper limit; two open markers cannot "
            "be ranked. Bars: spread over seeds, or the statistics of one."
        ),
    ),
    "efficiency": (
        "Background efficiency against the protected variable",
        (
            "Dashed: the efficiency asked for. Points that follow their line do not see the "
            "protected variable. Bars: Clopper-Pearson, 68.3 %; first seed."
        ),
    ),
    "roc": (
        "Background rejection against signal efficiency",
        (
            "Higher is better. Band: range of the seeds, or the statistical error of one. Curves "
            "end where fewer than three background events pass."
        ),
    ),
    "matrix": (
        "AUC of each score for each signal",
        (
            "All signals against the same background; last: their mean. Below each area its error: the "
            "statistical one, which seeds share as they share the events, and the spread over seeds in "
            "quadrature; bold: the largest of a column, which others may equal within errors. 0.5 is no "
            "separation; below it the signal looks more like background than background does."
        ),
    ),
    "rocsample": (
        "{signal}: background rejection against signal efficiency, by score",
        ("Band: range of the seeds, or the statistical error of one."),
    ),
    "rocscore": (
        "{score}: background rejection against signal efficiency, by signal",
        ("Band: range of the seeds, or the statistical error of one."),
    ),
    "beside": (
        "{title}: background before and after cuts",
        (
            "Filled: before the cut; points: after it, all normalised to one, with statistical errors. "
            "Below: ratio of what passes to what fails, flat at one without sculpting. First seed."
        ),
    ),
    "density": (
        "Background in the plane of protected variable and logit",
        (
            "Contours hold 10 to 97 % of the events; lines: quantiles of the logit. Level lines "
            "mean that the score does not see the protected variable, at the top of the score (99 "
            "%) as well as in the bulk."
        ),
    ),
    "ranks": (
        "Background's scores against {nuisance}",
        (
            "Every score by its rank in background, from 0 to 1, so that scores of any scale compare. "
            "Contours hold 10 to 97 % of the events; lines: quantiles in bins of the protected variable, "
            "level at the dotted ones where the score does not see it. Rank correlation with the error of a "
            "bootstrap. First seed."
        ),
    ),
    "scores": (
        "Scores by class",
        ("Dotted: the working points. Events beyond the axis are in its first and last bins."),
    ),
    "surface": (
        "The score over the plane of the two features",
        (
            "Lines join points of equal score. Points: test events, filled signal and open background, their "
            "shape and shade by the bin of the protected variable. Independence does not mean that the score "
            "is level along the protected variable, but that its distribution is the same in each bin."
        ),
    ),
    "byslice": (
        "The score in bins of the protected variable",
        (
            "Densities of all events, of background and of signal. Where the curves of a row lie on each "
            "other, the score does not tell the bin. Where the label depends on the protected variable, a "
            "tagger that is independent of it within each class is not so over all events. First seed."
        ),
    ),
    "inslices": (
        "Separation in bins of the protected variable",
        (
            "AUC, share of events on their side of score 1/2, and cross-entropy in each bin; bars: "
            "statistical errors. A bin with one class alone has no AUC. First seed."
        ),
    ),
    "halfcurve": (
        "Background rejection against 1/JSD at 50 % signal efficiency",
        (
            "Up and to the right is better, as far as the dashed line: the statistical limit, 1/floor, that "
            "a tagger without sculpting reads on this sample (grey: its spread, 68.3 %). Filled: sculpting "
            "is resolved. Open: 1/JSD is at the limit; open markers cannot be ranked by it. Star: the plain "
            "score after a quantile map in the protected variable, fitted on the other half of the same "
            "events. Bars: spread over seeds, or the statistics of one."
        ),
    ),
    "slices": (
        "{tagger}: spectra in bins of {second}, at 50 % signal efficiency",
        (
            "Above: background before (filled) and after the cut, normalised in each bin; middle: passing "
            "over failing background, flat at one without sculpting; below: signal. First seed."
        ),
    ),
    "efficiencies": (
        "Efficiency at the cut of 50 % signal efficiency",
        (
            "Filled: background; open: signal; dashed: all events of the class. Bars: Clopper-Pearson with "
            "effective counts, 68.3 %; triangles: upper ends where nothing passes. First seed."
        ),
    ),
    "images": (
        "{tagger}: average jet images",
        (
            "Mean share of a jet's pt in each pixel about its axis, the main direction turned upright with "
            "its harder half up. Right: after over before; hatched where its error is above 40 %. First seed."
        ),
    ),
    "shifts": (
        "{tagger}: shifted events after {rejection:g} % background rejection",
        (
            "Every input computed again from shifted events, at the same threshold. Below: shifted over "
            "nominal; grey: the nominal statistical error, most of which cancels between the two."
        ),
    ),
    "information": (
        "What each latent knows of the protected variables",
        (
            "Mutual information on validation background, quantile bins, its bias subtracted. Framed: cut "
            "out before the classification. First seed."
        ),
    ),
    "latents": (
        "{tagger}: means of the latents against {nuisance}",
        (
            "Background validation events; contours hold 10 to 97 % of them, lines: quantiles of the "
            "latent's mean. KL: divergence of the latent from its prior [nats]; near zero, it has vanished "
            "and tells nothing. I: mutual information with the protected variable [nats], which also sees "
            "what is not monotone. Rank correlation with the error of a bootstrap. First seed."
        ),
    ),
    "intervention": (
        "{tagger}: latent {latent} moved, which stands for {nuisance}",
        (
            "Mean change of the decoded features when this latent alone is moved (filled); how events differ "
            "whose protected variable is so far from its median, in deviations of the Gaussian of its ranks "
            "(open). Where both agree, the latent carries what the protected variable does to the feature; "
            "open points without a filled one are left to other latents. First seed."
        ),
    ),
    "scan": (
        "{nuisance}: what becomes of {tagger} as {scanned} changes, {rejection:g} % background rejection",
        (
            "Higher is better in each panel. 1/JSD cannot be measured beyond the dashed line, the "
            "statistical limit 1/floor that a tagger without sculpting reads on this sample (grey: 68.3 % of "
            "them). Filled: sculpting is resolved; open: it is not, and open markers cannot be ranked. Bars: "
            "spread over seeds, or the statistics of one."
        ),
    ),
    "latentscan": (
        "{nuisance}: what becomes of the representation of {tagger} as {scanned} changes",
        (
            "On validation background. KL: of the posterior from the prior, of all latents (points) and of "
            "each in falling order (thin); below the dashed line a latent is not in use, and at the foot it "
            "has vanished. Rank correlation with the protected variable: the largest of a latent in use, "
            "zero where there is none. Last: reconstruction against that correlation; both lower is better. "
            "Bars: spread over seeds, or of one seed the statistical error where there is one."
        ),
    ),
    "pareto": (
        "{nuisance}: 1/JSD at {rejection:g} % background rejection against {against}",
        (
            "Up and to the right is better, as far as the dashed line, the statistical limit 1/floor (grey: "
            "68.3 % of what is read there without sculpting). Filled: sculpting is resolved; open: it is "
            "not, and open markers count as equal in 1/JSD. Thick grey: the front, which no other point "
            "beats in both. Bars: spread over seeds, or the statistics of one."
        ),
    ),
    "validation": (
        "Validation AUC of every point, epoch by epoch",
        ("First seed. Where a method has several stages, those that have an AUC."),
    ),
    "training": (
        "{tagger}: training history",
        (
            "An adversary whose loss stays clearly above its floor lags behind: it says nothing "
            "about independence. The audit above, by a fresh adversary, does."
        ),
    ),
    "made_spectra": (
        "Jets that the decoder makes, and true ones",
        (
            "Filled: true jets; points: the same jets encoded and decoded, and jets from draws of the prior, "
            "all normalised to one and cut to {length} constituents. Below: ratio to the true ones. Bars: "
            "statistical, of jets. What lies beyond an axis is in its first and last bins."
        ),
    ),
    "made_images": (
        "Average jet images",
        (
            "The mean share of the jet's pT in each pixel, turned so that the main direction is upright and "
            "the harder half is above."
        ),
    ),
    "codes": (
        "{title}",
        (
            "Boxes: quartiles and median over trainings (seeds), whiskers to the last point within 1.5 "
            "quartile distances; points: each training. Of one training: its figure with the error of a "
            "bootstrap of groups. Dotted: what the exact posterior of the process comes to."
        ),
    ),
    "translations": (
        "Events translated to another group",
        (
            "A row is a tagger, a panel a pair of groups; from left to right: events of the source group, "
            "events of the target group, the source's events with the target's group variables as the "
            "process makes them, and as the tagger (first seed) makes them; lines join what is one event. "
            "The better the last two agree, the better group and instance are kept apart."
        ),
    ),
}

DEFINITION = (
    "Jensen-Shannon divergence of background that passes and background that fails, in {unit}, in "
    "{bins} equal bins of {nuisance} from {low:g} to {high:g}{axis_unit}; {weighting}; "
    "{outside:,} background events outside the range are {kept}. Floor: its mean {null}. "
    "Upper limit: 95 % CLs on the divergence beyond the floor; with several "
    "seeds the largest. p: {permutations:,} {draws}, Holm-adjusted over this tagger's "
    "working points. 'No sculpting resolved' means p > 0.05, at the sensitivity that the limit "
    "states."
)

CLOSURE = (
    "Thresholds frozen before, applied to this sample. The pull divides by this sample's error "
    "alone; that of the sample which set the threshold comes on top."
)

NO_CLOSURE = "No frozen thresholds were given: the cuts above are quantiles of this sample's background."

HALF_SIGNAL = (
    "At 50 % signal efficiency, as ATLAS and DisCo quote it, in both bases of the logarithm (1/JSD in bits "
    "is ln 2 times that in nats). The statistical limit 1/floor is what a tagger without sculpting reads on "
    "this sample. p: whether the JSD exceeds its floor; this one point is a family of its own, apart from "
    "the fixed rejections above, and its p-value is not adjusted. p > 0.05: 1/JSD is at its statistical "
    "limit, which is then no measurement of the tagger but of the sample, and figures from samples of other "
    "sizes do not compare; the upper limit says how much sculpting may hide."
)

MAPPED = (
    " Quantile map: the same tagger's score, replaced by the background's quantile at each value of the "
    "protected variable, fitted on one half of these events and applied to the other. A tagger that was "
    "decorrelated in training has to reach its R50 at the same 1/JSD."
)

BY_SAMPLE = (
    "Every signal against the whole background, at cuts that they share. AUC with DeLong's error; the error "
    "of the mean over signals takes into account that they share their background. With several seeds: mean "
    "± standard deviation over the seeds, and the mean statistical error beside it."
)

SHIFTS = (
    "Thresholds stay as they were chosen on events without shift. Efficiencies count all events, also "
    "outside the range of the spectra; the JSD (background, nats) those within, in the bins of the figure."
)

INFORMATION = (
    "Mutual information of the score and the bin of the protected variable, less the bias of finite "
    "samples, with the score in 20 quantile bins, which see every digit of the logit, and in ten equal bins "
    "from 0 to 1, which see what cuts on a probability would. p: G-test of independence, the smallest over "
    "the seeds. What the information can be at most is the entropy of the bins."
)

LATENTS = (
    "On background validation events, whose latents lie beside each tagger. MIG: how much more one latent "
    "tells about a protected variable than any other, over its entropy; 0 is no gap. A gap is no "
    "independence: what the other latents know jointly, and what the classifier makes of it, is judged above."
)

SUMMARY = (
    "Intervals are 68.3 %; with several seeds mean ± standard deviation over the seeds. dCor²: "
    "unbiased squared distance correlation of logit and protected variable, background only, "
    "about zero for independence. Fresh adversary: boosted trees trained on the frozen score; "
    "what they learn beyond the frequencies, held out."
)
