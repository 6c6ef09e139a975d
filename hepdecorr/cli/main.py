"""The verbs of `hepdecorr`.  Halves are imported inside, so that `--help` is there at once."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from hepdecorr import __version__
from hepdecorr.errors import InputError

app = typer.Typer(
    name="hepdecorr",
    help="Taggers that do not sculpt the mass: train them, apply them in coffea, prove it.",
    epilog="Start with: hepdecorr init my_analysis; hepdecorr run my_analysis/analysis_configs/bsgamma.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
generate = typer.Typer(no_args_is_help=True, help="Generate a Monte Carlo sample.")
app.add_typer(generate, name="generate")

INTERRUPTED = 130
_CHATTER = "Missing cross-reference index"
console = Console()
errors = Console(stderr=True)

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file of the analysis.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the YAML, such as seeds=[1,2,3]."),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="TAGGER", help="Only this tagger; repeatable.")
]
Redo = Annotated[bool, typer.Option("--redo", help="Do it again even if it is finished.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        console.print(f"hepdecorr {__version__}")
        raise typer.Exit
    level = logging.DEBUG if debug else logging.WARNING
    handler = RichHandler(console=errors, show_path=debug, show_time=debug)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("hepdecorr").setLevel(level)
    if quiet:
        console.quiet = True
    if not debug:
        # coffea's schemas tell of every cross-reference that a file lacks; its workers are processes.
        hush = f"ignore:{_CHATTER}:RuntimeWarning"
        warnings.filterwarnings("ignore", message=_CHATTER, category=RuntimeWarning)
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), hush]))


@generate.command(
    "bsgamma",
    epilog="hepdecorr generate bsgamma --process continuum --candidates 50000 --workers 8 --out bkg.root; "
    "hepdecorr generate bsgamma --runs 100 --photon-scale 0.02 --beam-shift 0.0025 --candidates 15000",
)
def generate_bsgamma(
    out: Annotated[Path, typer.Option(help="Folder, or with --process a ROOT file.")] = Path(),
    process: Annotated[
        str | None, typer.Option(help="signal (B -> K*0 gamma) or continuum (e+e- -> q qbar); default: both.")
    ] = None,
    events: Annotated[int | None, typer.Option(help="Events to generate.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Or: stop at this many stored candidates.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file for any --workers.")] = 1,
    workers: Annotated[int, typer.Option("--workers", "--jobs", help="Processes.")] = 1,
    kaon_id: Annotated[bool, typer.Option("--kaon-id", help="Require an identified kaon and pion.")] = False,
    keep_either: Annotated[
        bool, typer.Option("--keep-either", help="Keep if M_bc or the corrected M_bc is above 5.2 GeV.")
    ] = False,
    isr: Annotated[bool, typer.Option("--isr", help="Photons from the beams in the continuum.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Round and compress, for small files.")] = False,
    runs: Annotated[
        int | None, typer.Option(help="Runs with hidden conditions, which both processes share.")
    ] = None,
    photon_scale: Annotated[
        float | None,
        typer.Option(help="Spread of the scale of photon energies over the runs.", show_default="0.02"),
    ] = None,
    beam_shift: Annotated[
        float | None,
        typer.Option(help="Spread of a beam's energy over the runs, GeV.", show_default="0.0025"),
    ] = None,
    conditions_seed: Annotated[
        int | None, typer.Option(help="Runs of the same seed have the same conditions.", show_default="1")
    ] = None,
) -> None:
    """Generate B -> K*0 gamma and its continuum background, through a parametrised detector."""
    from hepdecorr.cli import steps
    from hepdecorr.samples.bsgamma import PROCESSES, Options

    hidden = {"photon_scale": photon_scale, "beam_shift": beam_shift, "seed": conditions_seed}
    options = Options(
        kaon_id=kaon_id,
        keep_either=keep_either,
        isr=isr,
        compact=compact,
        conditions=_conditions(runs, hidden),
    )
    for one, file in _files("bsgamma", PROCESSES, process=process, out=out).items():
        steps.generate(
            console,
            "bsgamma",
            one,
            out=file,
            events=events,
            candidates=candidates,
            seed=seed,
            workers=workers,
            options=options,
        )


@generate.command(
    "jets",
    epilog="hepdecorr generate jets --process qcd --jets 50000 --jobs 8 --out qcd.root; "
    "hepdecorr generate jets --process top --mass 2000 --jets 10000 --out top.root",
)
def generate_jets(
    out: Annotated[Path, typer.Option(help="Folder, or with --process a ROOT file.")] = Path(),
    process: Annotated[
        str | None,
        typer.Option(help="qcd, w (W' -> WZ), top (Z' -> t tbar) or h4j (H -> hh -> 4 quarks); or all."),
    ] = None,
    events: Annotated[int | None, typer.Option(help="Events to generate.")] = None,
    jets: Annotated[int | None, typer.Option(help="Or: stop at this many stored jets.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file for any --jobs.")] = 1,
    pthat_min: Annotated[
        float | None,
        typer.Option(help="pT-hat from, GeV (qcd, h4j).", show_default="0.9, 1.05 times --pt-min"),
    ] = None,
    pthat_max: Annotated[
        float | None, typer.Option(help="pT-hat to, GeV (qcd, h4j).", show_default="2.5 times --pt-min")
    ] = None,
    flat_pt: Annotated[
        bool,
        typer.Option("--flat-pt", help="Jets about evenly in pT, with weights for the spectrum (qcd, h4j)."),
    ] = False,
    mass: Annotated[
        float | None,
        typer.Option(help="Mass of W', Z' or H, GeV.", show_default="1300, 1350, 174"),
    ] = None,
    light_mass: Annotated[
        float | None, typer.Option(help="Mass of h in H -> hh, GeV.", show_default="80")
    ] = None,
    boson_mass: Annotated[
        float | None, typer.Option(help="Mass of W and of Z, GeV (w).", show_default="their own")
    ] = None,
    boson_mass_max: Annotated[
        float | None, typer.Option(help="Masses of W and Z from --boson-mass to this, flat, GeV (w).")
    ] = None,
    top_mass: Annotated[
        float | None,
        typer.Option(help="Mass of top, GeV, the W in it scaled alike (top).", show_default="its own"),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="pfnano (PFCands) or v15 (PFCand): how constituents are stored.")
    ] = "pfnano",
    no_mpi: Annotated[
        bool, typer.Option("--no-mpi", help="Without multiparton interactions: twice as fast, lighter jets.")
    ] = False,
    radius: Annotated[float, typer.Option(help="R of the anti-kT jets.")] = 1.0,
    pt_min: Annotated[float, typer.Option(help="Jets with pT above, GeV.")] = 450.0,
    jobs: Annotated[int, typer.Option("--jobs", "--workers", help="Processes.")] = 1,
) -> None:
    """Generate large-radius jets at 13 TeV with their constituents, through a parametrised detector."""
    from hepdecorr.cli import steps
    from hepdecorr.samples.jets import PROCESSES, Options

    masses = {
        "mass": mass,
        "light_mass": light_mass,
        "boson_mass": boson_mass,
        "boson_mass_max": boson_mass_max,
        "top_mass": top_mass,
    }
    own = flat_pt or pthat_min or pthat_max or any(value is not None for value in masses.values())
    if process is None and own:
        raise InputError(
            "--mass and other masses, --flat-pt and --pthat-... are of one process; add --process"
        )
    options = Options(
        **masses,
        pthat_min=pthat_min,
        pthat_max=pthat_max,
        flat_pt=flat_pt,
        mpi=not no_mpi,
        radius=radius,
        pt_min=pt_min,
        layout=layout,
    )
    for one, file in _files("jets", PROCESSES, process=process, out=out).items():
        steps.generate(
            console, "jets", one, out=file, events=events, jets=jets, seed=seed, workers=jobs, options=options
        )


@generate.command(
    "toys", epilog="hepdecorr generate toys --process louppe --events 125000 --out data/toys_louppe.root"
)
def generate_toys(
    out: Annotated[Path, typer.Option(help="Folder, or with --process a ROOT file.")] = Path(),
    process: Annotated[
        str | None, typer.Option(help="louppe, regression, discrete, unused, slides or zgubic; default: all.")
    ] = None,
    events: Annotated[int, typer.Option(help="Events, both classes together.")] = 125_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 1,
) -> None:
    """Generate a toy: two features x1, x2, a label and a nuisance z (docs/toys.md)."""
    from hepdecorr.cli import steps
    from hepdecorr.samples.toys import PROCESSES

    for one, file in _files("toys", PROCESSES, process=process, out=out).items():
        steps.generate(console, "toys", one, out=file, events=events, seed=seed)


@generate.command(
    "exam-scores", epilog="hepdecorr generate exam-scores --groups 32768 --out data/exam_scores.root"
)
def generate_exam_scores(
    out: Annotated[Path, typer.Option(help="ROOT file, or the folder for it.")] = Path(),
    groups: Annotated[int, typer.Option(help="Schools, each of 8 + Poisson(16) students.")] = 32_768,
    noise: Annotated[float, typer.Option(help="Standard deviation of a score's error.")] = 0.5,
    same_size: Annotated[
        bool, typer.Option("--same-size", help="64 schools at a time share one size, as the authors' do.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file for any --workers.")] = 1,
    workers: Annotated[int, typer.Option("--workers", "--jobs", help="Processes.")] = 1,
) -> None:
    """Generate exam scores by school, x = 2 mu + (sigma^2 + 1) v + eps: groups with a common unknown."""
    from hepdecorr.cli import steps
    from hepdecorr.samples.exam_scores import PROCESSES, Options

    file = out if out.suffix == ".root" else out / "exam_scores.root"
    asked = {"groups": groups, "seed": seed, "workers": workers}
    options = Options(noise=noise, same_size=same_size)
    steps.generate(console, "exam-scores", PROCESSES[0], out=file, options=options, **asked)


def _collisions(sample: str, *, told: str, epilog: str) -> None:
    """Add the verb of a sample of whole pp collisions."""

    @generate.command(sample, help=told, epilog=epilog)
    def verb(
        out: Annotated[Path, typer.Option(help="Folder, or with --process a ROOT file.")] = Path(),
        process: Annotated[str | None, typer.Option(help="One of these; default: all.")] = None,
        events: Annotated[int | None, typer.Option(help="Events to generate.")] = None,
        candidates: Annotated[int | None, typer.Option(help="Or: stop at this many selected events.")] = None,
        seed: Annotated[int, typer.Option(help="The same seed gives the same file for any --jobs.")] = 1,
        no_mpi: Annotated[
            bool, typer.Option("--no-mpi", help="Without multiparton interactions: five times as fast.")
        ] = False,
        jobs: Annotated[int, typer.Option("--jobs", "--workers", help="Processes.")] = 1,
    ) -> None:
        from hepdecorr.cli import steps
        from hepdecorr.samples import find_sample
        from hepdecorr.samples.lhc.generation import Options

        asked = {"events": events, "candidates": candidates, "seed": seed, "workers": jobs}
        for one, file in _files(sample, find_sample(sample).PROCESSES, process=process, out=out).items():
            steps.generate(console, sample, one, out=file, options=Options(mpi=not no_mpi), **asked)


_collisions(
    "hbb",
    told="Generate zh (ZH -> nu nu b b), zbb (Z + b b) and zz (ZZ -> nu nu b b) at 13 TeV, through a "
    "parametrised detector.",
    epilog="hepdecorr generate hbb --process zbb --candidates 20000 --jobs 8 --out data/hbb_zbb.root",
)
_collisions(
    "hmumu",
    told="Generate signal (H -> mu mu) and dy (Z/gamma* -> mu mu) at 13 TeV, in the branches of NanoAOD.",
    epilog="hepdecorr generate hmumu --candidates 50000 --jobs 8 --out data",
)


def _conditions(runs: int | None, hidden: dict[str, Any]) -> Any:
    """What changes from run to run, where there are runs; of `hidden`, None stands for what is usual."""
    from hepdecorr.samples.bsgamma import Conditions

    given = {name: value for name, value in hidden.items() if value is not None}
    if runs is not None:
        return Conditions(runs, **given)
    if given:
        raise InputError(
            "--photon-scale, --beam-shift and --conditions-seed are of runs: say how many with --runs"
        )
    return None


def _files(sample: str, processes: Iterable[str], *, process: str | None, out: Path) -> dict[str, Path]:
    """The file of each process that is asked for."""
    if out.suffix == ".root" and process is None:
        raise InputError(f"--out {out}: one file holds one process; add --process, or give a folder")
    wanted = [process] if process else processes
    return {one: out if out.suffix == ".root" else out / f"{sample}_{one}.root" for one in wanted}


@app.command(epilog="hepdecorr table analysis_configs/bsgamma.yaml --set running.executor=futures")
def table(config: ConfigPath, overrides: Overrides = None, redo: Redo = False) -> None:
    """ROOT files -> training table."""
    _analysis(config, overrides).table(redo=redo)


@app.command(epilog="hepdecorr train analysis_configs/bsgamma.yaml --only disco --set seeds=[1,2,3]")
def train(config: ConfigPath, overrides: Overrides = None, only: Only = None, redo: Redo = False) -> None:
    """Training table -> taggers, models/NAME/{tagger.onnx, card.yaml}."""
    _analysis(config, overrides, only).train(redo=redo)


@app.command(epilog="hepdecorr evaluate analysis_configs/bsgamma.yaml")
def evaluate(config: ConfigPath, overrides: Overrides = None, only: Only = None, redo: Redo = False) -> None:
    """Taggers applied to ROOT files -> histograms and scores of the test events."""
    _analysis(config, overrides, only).evaluate(redo=redo)


@app.command(epilog="hepdecorr report analysis_configs/bsgamma.yaml")
def report(config: ConfigPath, overrides: Overrides = None, only: Only = None, redo: Redo = False) -> None:
    """Histograms and scores -> measures, plots, report.html."""
    _analysis(config, overrides, only).report(redo=redo)


@app.command(epilog="hepdecorr run analysis_configs/bsgamma.yaml --only plain --only disco")
def run(config: ConfigPath, overrides: Overrides = None, only: Only = None, redo: Redo = False) -> None:
    """All of it: does what is missing and skips what is finished."""
    analysis = _analysis(config, overrides, only)
    analysis.check_methods()
    analysis.table(redo=redo)
    analysis.train(redo=redo)
    analysis.evaluate(redo=redo)
    analysis.report(redo=redo)


@app.command(
    epilog="hepdecorr scan analysis_configs/bsgamma.yaml --tagger disco --over terms.0.strength=1,2,5,10,20; "
    "... --over terms.0.strength=log:0.1:100:10 --over training.epochs=8,16 --seeds 1,2,3 --jobs 2"
)
def scan(
    config: ConfigPath,
    tagger: Annotated[str, typer.Option(metavar="TAGGER", help="Which tagger.", show_default=False)],
    over: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="A key of its block and the values: 1,2,5 or log:0.1:100:10 or lin:2:16:8; repeatable, all "
            "combinations.",
            show_default=False,
        ),
    ],
    seeds: Annotated[str, typer.Option(help="Such as 1,2,3 or 1:5.", show_default="those of CONFIG")] = "",
    name: Annotated[str, typer.Option(help="Folder below scans/.", show_default="TAGGER_KEY")] = "",
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="training.jobs")] = None,
    overrides: Overrides = None,
    redo: Redo = False,
) -> None:
    """One tagger with other values: trained, measured and drawn against them; goes on where it stopped."""
    changed = [*(overrides or []), *([f"training.jobs={jobs}"] if jobs else [])]
    _analysis(config, changed).scan(tagger, over, seeds=seeds, name=name, redo=redo)


@app.command(
    epilog="hepdecorr compare analysis_configs/bsgamma.yaml --set seeds=[1,2,3,4,5]; "
    "... --only plain --only disco --scan disco_strength"
)
def compare(
    config: ConfigPath,
    overrides: Overrides = None,
    only: Only = None,
    scans: Annotated[
        list[str] | None,
        typer.Option("--scan", metavar="NAME", help="Also the points of this scan; repeatable."),
    ] = None,
) -> None:
    """Evaluated taggers side by side: which of their differences are more than noise?"""
    _analysis(config, overrides, only).compare(scans or [])


@app.command(
    epilog="hepdecorr imagine analysis_configs/anomaly.yaml --only plain --jets 20000 --set seeds=[1]"
)
def imagine(
    config: ConfigPath,
    overrides: Overrides = None,
    only: Only = None,
    jets: Annotated[int, typer.Option(min=2, help="So many true jets, and as many generated.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed draws the same jets.")] = 1,
    redo: Redo = False,
) -> None:
    """Jets that a JetVAE makes of draws from its prior, beside true and reconstructed ones."""
    _analysis(config, overrides, only).imagine(jets=jets, seed=seed, redo=redo)


@app.command(epilog="hepdecorr groups analysis_configs/exam_scores.yaml --only cxvae --only ml_vae")
def groups(config: ConfigPath, overrides: Overrides = None, only: Only = None, redo: Redo = False) -> None:
    """Codes of groups and of their events, on test groups: do they keep apart what they should?"""
    _analysis(config, overrides, only).groups(redo=redo)


@app.command(epilog="hepdecorr inspect models/bsgamma-disco-1")
def inspect(
    path: Annotated[
        Path, typer.Argument(help="A ROOT file, a table's folder, or a tagger.", show_default=False)
    ],
) -> None:
    """Say what a ROOT file, a table or a tagger holds."""
    from hepdecorr.cli import show

    show.inspect(console, path)


@app.command(epilog="hepdecorr init my_analysis")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
) -> None:
    """Copy the example processors and configs into a new folder, to edit there."""
    from hepdecorr.cli import steps

    steps.scaffold(console, folder)


def _analysis(path: Path, overrides: list[str] | None, only: list[str] | None = None) -> Any:
    from hepdecorr.cli.steps import Analysis
    from hepdecorr.config import load

    return Analysis(load(path, overrides=overrides or []), console=console, only=only or [])


def main() -> None:
    """Run the command line; what the user can mend is one message and code 2, without a traceback."""
    # `--debug` may stand anywhere, since one adds it to a command that failed.
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(["--debug", *arguments] if debug else arguments)
    except InputError as err:
        if debug:
            raise
        errors.print(f"[bold red]error:[/] {_plain(err)}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except SystemExit as left:
        if left.code == INTERRUPTED:  # what typer makes of Ctrl-C
            errors.print("[bold]stopped;[/] the same command goes on where this one was")
        raise
    except Exception as err:
        if debug:
            raise
        errors.print(
            f"[bold red]error:[/] {type(err).__name__}: {_plain(err)}\n"
            "This was not foreseen; --debug shows where it happened.",
            soft_wrap=True,
            highlight=False,
        )
        sys.exit(1)


def _plain(err: BaseException) -> str:
    # Square brackets of a message are no markup.
    return str(err).replace("[", r"\[")


if __name__ == "__main__":
    main()
