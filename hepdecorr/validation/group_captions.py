"""What figures and tables between groups mean and how to read them."""

from __future__ import annotations

CAPTIONS = {
    "condition": (
        "Efficiency against {condition}, at {rejection:g} % background rejection",
        (
            "Points: groups in ten bins of their true condition. Bars: the scatter of the groups in a "
            "bin, at least that of counting. Dashed: all groups together. Points that follow their line "
            "do not see the condition. First seed."
        ),
    ),
    "bygroup": (
        "{kind} efficiency by {of}, at {rejection:g} % background rejection",
        (
            "Every {of} in its order; bands: what counting alone leaves within one and two deviations "
            "of the efficiency of all. Right: deviations over that error; without dependence on the "
            "{of} they follow the unit normal (grey), but for groups of few events. What lies beyond is "
            "in the first and last bin. First seed."
        ),
    ),
    "thirds": (
        "{nuisance} of background in thirds of {condition}, at {rejection:g} % background rejection",
        (
            "Groups with the lowest, middle and highest third of the condition, before and behind the "
            "cut, normalised to one. Below: lowest and highest over middle; flat at one where the "
            "condition does not move what passes. JSD: lowest against highest third, adjusted within "
            "the tagger. First seed."
        ),
    ),
    "recovered": (
        "{condition} from the code of the {of} against its true value",
        (
            "Groups that neither trained the tagger nor the map. Bars: the posterior's deviation, "
            "carried through the map and calibrated on the groups of the map. Below: deviations from "
            "the dashed line over that error; bands: one and two of them. First seed."
        ),
    ),
    "resolution": (
        "Resolution of the conditions by number of events",
        (
            "Root mean square of code less truth, over the standard deviation of the truth: 1 tells nothing. "
            "Codes of the test groups, made of all of their events or of each second, fourth, ... Bars: "
            "bootstrap over the groups. Dotted: what fewer would tell if each told what one of all does, "
            "for the first tagger. First seed."
        ),
    ),
}

SPREAD = (
    "Spread: standard deviation of the efficiency between groups beyond chance, in per cent of all "
    "events of the class, by moments (DerSimonian and Laird), with a 68.3 % interval from a bootstrap "
    "over groups; below zero where groups differ less than chance lets them, which is how a spread of "
    "zero looks half of the time. Chance: what counting alone gives. Limit: 95 %. p: events exchanged "
    "between groups, Holm-adjusted over both classes and all rejections of a tagger; p > 0.05 says that "
    "nothing is resolved at the sensitivity that the limit states, not that nothing is there. Times "
    "smaller: of the reference's spread, both in the same draws of groups; '>' where the spread is not "
    "resolved from zero: 95 % limit; none where that of the reference is not, either. Spread that "
    "follows the conditions: what a surface of second order in them explains, less what it would of "
    "chance; p by F-test, in the same family; far more sensitive than the spread of all groups, but "
    "blind to what has other causes. Change: of the efficiency for one standard deviation of the "
    "condition, on a straight line. Cuts are fixed on the background of all groups. With several seeds "
    "mean ± standard deviation over them, the largest limit, and median and range of p."
)

SPECTRA = (
    "Spread of the group's mean and width of {variable} in background that passes, beyond chance, as "
    "above; the first row is before any cut: what the groups bring along. p: adjusted over mean and "
    "width at all rejections of a tagger. JSD: of the spectra in the groups with the lowest and the "
    "highest third of the condition, its floor being what equal spectra of so many events give; p by "
    "permutation of events, adjusted over rejections and conditions."
)

CODES = (
    "A straight map from the code to the condition, fitted by least squares on groups of the training "
    "table, is applied to every {of} of the test. Resolution: root mean square of what is left; truth: "
    "standard deviation of the condition, the resolution of a code that tells nothing. Pull: what is "
    "left over the posterior's own deviation, carried through the map for those numbers of the code "
    "that tell groups apart. Calibration: factor on that deviation, root mean square of the pulls on "
    "the groups of the map; 'calibrated' is after it. Shares within one and two deviations: 68.3 and "
    "95.4 % if the errors are right. Errors: bootstrap over the groups of map and test; of shares "
    "Clopper-Pearson."
)

THINNED = (
    "Codes of the same test groups, made of all of their events or of each second, fourth, ..., under a map "
    "that is fitted on groups thinned alike: what a {of} of that size would be known to. Sizes that the "
    "training had not seen are asked much of a network."
)
