"""Hypothesis strategies that write small Pyro programs, and how estimators are called on them."""

from dataclasses import replace

from hypothesis import strategies as st

from tests.programs.check import Setting
from tests.programs.oracle import Oracle
from tests.programs.spec import (
    Guide,
    Handler,
    Loop,
    Plate,
    Program,
    Site,
    is_latent,
)

SCALES = (0.3, 0.7, 1.9, 2.6)
ROWS, COLUMNS, BESIDE = "rows", "columns", "beside"


def _chance(draw: st.DrawFn, one_in: int) -> bool:
    return draw(st.integers(0, one_in - 1)) == one_in - 1


@st.composite
def plates(draw: st.DrawFn) -> tuple[tuple[Plate, ...], list[tuple[str, ...]]]:
    """The plates, and the sets of them that a site may lie in, the usual ones more than once."""
    kind = draw(st.sampled_from(["one"] * 5 + ["none", "nested", "nested", "beside", "crossed"]))
    if kind == "none":
        return (), [()]
    sizes = [draw(st.integers(1, 3)), draw(st.integers(1, 2))]
    names, dims, choices = {
        "one": ([ROWS], [-1], [(ROWS,)] * 5 + [()]),
        "nested": ([ROWS, COLUMNS], [-2, -1], [(ROWS,), (ROWS, COLUMNS), (ROWS, COLUMNS), ()]),
        "beside": ([ROWS, BESIDE], [-1, -1], [(ROWS,), (BESIDE,), (ROWS,), ()]),
        "crossed": ([ROWS, COLUMNS], [-1, -2], [(ROWS,), (COLUMNS,), (ROWS, COLUMNS), ()]),
    }[kind]
    if draw(st.integers(0, 3)):  # every site in the plate of datapoints
        choices = [choice for choice in choices if ROWS in choice]
    made = []
    for name, size, dim in zip(names, sizes, dims, strict=False):
        indices = draw(st.sampled_from([None, None, None, None, "given", "drawn"]))
        full = size + draw(st.integers(1, 2)) if indices else None
        made.append(Plate(name, size, dim, full, indices))
    return tuple(made), choices


LATENTS = ["bernoulli"] * 5 + ["categorical", "onehot", "binomial"]
OBSERVED = ["bernoulli", "bernoulli", "normal", "normal", "poisson", "categorical"]


@st.composite
def sites(
    draw: st.DrawFn, guide: str, choices: list[tuple[str, ...]], loops: tuple[Loop, ...]
) -> tuple[Site, ...]:
    """The statements in order; parents lie before their children."""
    latents = draw(st.sampled_from([1, 1, 1, 2, 2, 2, 3, 0] if guide == "prior" else [1, 1, 2, 3]))
    observed = draw(st.sampled_from([1, 1, 1, 2]))
    if guide in ("mean_field", "conditional") and _chance(draw, 12):
        observed = 0
    roles = ["latent"] * latents + ["observed"] * observed
    if _chance(draw, 6):
        roles.insert(draw(st.integers(0, len(roles))), "deterministic")
    if _chance(draw, 6):
        roles.insert(draw(st.integers(1, len(roles))), "factor")
    if guide == "prior" and _chance(draw, 6):
        roles.insert(draw(st.integers(0, len(roles) - 1)), "delta")
    if guide in ("mean_field", "conditional") and _chance(draw, 8):
        roles.insert(draw(st.integers(0, len(roles) - 1)), "normal")
    if _chance(draw, 20):
        roles.insert(draw(st.integers(0, len(roles))), "do")
    if _chance(draw, 5):
        roles = list(draw(st.permutations(roles)))
    made: list[Site] = []
    looped = draw(st.integers(0, len(roles) - 1)) if loops else len(roles)
    for number, role in enumerate(roles):
        loop = loops[0] if number >= looped else None
        made.append(_site(draw, role, number, made, choices, loop))
    return tuple(made)


def _site(
    draw: st.DrawFn,
    role: str,
    number: int,
    before: list[Site],
    choices: list[tuple[str, ...]],
    loop: Loop | None,
) -> Site:
    family = role
    letter = {"latent": "h", "observed": "y", "deterministic": "r", "factor": "f"}.get(role, "z")
    if role == "latent":
        family = draw(st.sampled_from(LATENTS))
    if role == "observed":
        family = draw(st.sampled_from(OBSERVED))
    if role == "do":
        family = "bernoulli"
    able = [site.name for site in before if site.family != "factor"]
    parents: list[str] = []
    if able:
        how = draw(st.sampled_from(["last", "last", "all", "some", "none"]))
        some = draw(st.lists(st.sampled_from(able), max_size=2, unique=True))
        parents = {"last": able[-1:], "all": able, "some": some, "none": []}[how]
    observed = ""
    if role == "observed":
        observed = "condition" if loop is None and _chance(draw, 8) else "obs"
    plain = role in ("factor", "deterministic")
    plates = draw(st.sampled_from(choices))
    parents = [one for one in parents if not _summed(one, before) & set(plates)]
    return Site(
        name=f"{letter}{number}",
        family=family,
        plates=plates,
        units=0 if plain else draw(st.sampled_from([0, 0, 0, 1, 2])),
        form=draw(st.sampled_from(["logits", "logits", "probs"])),
        parents=tuple(parents) if role != "do" else (),
        observed=observed,
        loop=None if loop is None else loop.name,
        previous=role == "latent" and loop is not None and loop.kind == "markov",
        infer=role == "latent" and _chance(draw, 10),
        do=role == "do" and loop is None,
        hidden=role in ("observed", "deterministic") and loop is None and _chance(draw, 16),
    )


def _summed(name: str, before: list[Site]) -> set[str]:
    """Plates over which a value that is only recorded was summed.

    What depends on it does not lie in them: elements of a plate are independent, and what is
    recorded has no part in the rule for what a datapoint is.
    """
    by_name = {site.name: site for site in before}
    site = by_name[name]
    if site.family != "deterministic":
        return set()
    ancestors = [by_name[parent] for parent in site.parents]
    lost = {plate for one in ancestors for plate in one.plates if plate not in site.plates}
    return lost.union(*(_summed(one.name, before) for one in ancestors))


@st.composite
def handlers(draw: st.DrawFn, program: Program) -> tuple[Handler, ...]:
    """Scales and masks around one site, some, or all of them."""
    count = draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2]))
    names = [site.name for site in program.sites]
    made = []
    values = list(draw(st.permutations(SCALES)))
    for number in range(count):
        around = draw(st.sampled_from(["one", "some", "all", "all"]))
        inside = names
        if around != "all":
            most = 1 if around == "one" else len(names)
            inside = draw(st.lists(st.sampled_from(names), min_size=1, max_size=most, unique=True))
        kind = draw(st.sampled_from(["scale", "scale", "mask", "mask", "dist_mask"]))
        if kind == "dist_mask":
            able = ("bernoulli", "categorical", "onehot", "binomial", "normal", "poisson")
            inside = [name for name in inside if program.site(name).family in able]
        if not inside:
            continue
        common = [
            plate.name
            for plate in program.plates
            if all(plate.name in program.site(name).plates for name in inside)
        ]
        plate = draw(st.sampled_from([None, *common]))
        value = values[number] if kind == "scale" else float(draw(st.booleans()))
        made.append(
            Handler(
                kind,
                tuple(inside),
                value,
                plate,
                outside=draw(st.booleans()),
                in_guide=draw(st.integers(0, 3)) > 0,
                tensor=draw(st.booleans()),
            )
        )
    if not made and _chance(draw, 12):  # the same number around every site, in several types
        made = [
            Handler("scale", (name,), 2.0, tensor=draw(st.booleans()), outside=draw(st.booleans()))
            for name in names
        ]
    return tuple(made)


@st.composite
def programs(draw: st.DrawFn, most: int = 36) -> tuple[Program, Setting]:
    """A program and a way to call estimators on it, of at most so many tuples of particles."""
    guide = draw(
        st.sampled_from(["prior"] * 4 + ["mean_field", "conditional", "conditional", "mixture"])
    )
    made, choices = draw(plates())
    loops: tuple[Loop, ...] = ()
    if _chance(draw, 8):
        kind = draw(st.sampled_from(["plate", "markov"]))
        full = 3 if kind == "plate" and draw(st.booleans()) else None
        loops = (Loop("steps", 2, kind, full),)
    program = Program(
        sites=draw(sites(guide, choices, loops)),
        plates=made,
        loops=loops,
        guide=Guide(
            guide,
            draw(st.booleans()),
            draw(st.sampled_from([0.5, 0.3])),
            guide in ("mean_field", "conditional") and _chance(draw, 10),
        ),
        form=draw(st.sampled_from(["function"] * 4 + ["partial", "bound"])),
        parameters=draw(st.sampled_from(["param", "param", "module", "pyromodule"])),
        dtype=draw(st.sampled_from(["float64"] * 6 + ["float32"])),
        seed=draw(st.integers(0, 1000)),
    )
    program = replace(program, handlers=draw(handlers(program)))
    setting = Setting(
        num_particles=draw(st.sampled_from([2, 2, 2, 2, 3, 1])),
        vectorize=draw(st.integers(0, 4)) > 0,
        call=draw(
            st.sampled_from(["differentiable_loss"] * 2 + ["loss_and_grads", "module", "chunked"])
        ),
        nesting=draw(st.integers(0, 3)) > 0,
    )
    if guide == "mixture":
        setting = replace(
            setting,
            num_particles=max(2, setting.num_particles),
            call="module" if setting.call == "chunked" else setting.call,
        )
    return trimmed(settled(without_doubled_scales(program)), setting, most)


def without_doubled_scales(program: Program) -> Program:
    """The program without scales around an intervention: Pyro applies them to it twice."""
    if not any(site.do for site in program.sites):
        return program
    whole = tuple(replace(plate, full=None, indices=None) for plate in program.plates)
    kept = tuple(handler for handler in program.handlers if handler.kind != "scale")
    return replace(program, plates=whole, handlers=kept)


def settled(program: Program) -> Program:
    """The program without what has no single right answer.

    A mixture of densities of which some sites are scaled or masked is no mixture of laws.
    """
    if program.guide.kind == "mixture":
        oracle = Oracle(program)
        masks = [h for h in program.handlers if h.kind != "scale"]
        uneven = any(
            oracle._factors(one, owner) - oracle.outside
            or any(one.template.name in mask.sites for mask in masks)
            for owner in ("m", "g")
            for one in oracle.latent
        )
        if uneven:
            return replace(program, guide=replace(program.guide, kind="conditional"))
    return program


def trimmed(program: Program, setting: Setting, most: int) -> tuple[Program, Setting]:
    """The program with smaller supports until its tuples can be enumerated."""
    while Oracle(program).num_states ** setting.num_particles > most:
        smaller = _smaller(program)
        if smaller is None and program.guide.kind == "mixture" and setting.num_particles == 2:
            program = replace(program, guide=replace(program.guide, kind="prior"))
        elif smaller is None:
            setting = replace(setting, num_particles=setting.num_particles - 1)
        else:
            program = settled(smaller)
    return program, setting


def _smaller(program: Program) -> Program | None:
    latents = [site for site in program.sites if is_latent(site)]
    wide = [site for site in latents if site.units > 1]
    if wide:
        return _changed(program, replace(wide[-1], units=1))
    rich = [site for site in latents if site.family in ("categorical", "onehot", "binomial")]
    if len(rich) > 1:
        return _changed(program, replace(rich[-1], family="bernoulli"))
    big = [plate for plate in program.plates if plate.size > 2]
    if big:
        return _resized(program, big[-1], 2)
    if len(latents) > 2:
        return without(program, latents[-1].name)
    big = [plate for plate in program.plates if plate.size > 1 and plate.name != ROWS]
    if big:
        return _resized(program, big[-1], 1)
    if rich:
        return _changed(program, replace(rich[-1], family="bernoulli"))
    if len(latents) > 1:
        return without(program, latents[-1].name)
    big = [plate for plate in program.plates if plate.size > 1]
    return _resized(program, big[-1], 1) if big else None


def _changed(program: Program, changed: Site) -> Program:
    sites = tuple(changed if site.name == changed.name else site for site in program.sites)
    return replace(program, sites=sites)


def _resized(program: Program, plate: Plate, size: int) -> Program:
    smaller = replace(plate, size=size)
    return replace(
        program, plates=tuple(smaller if one == plate else one for one in program.plates)
    )


def without(program: Program, name: str) -> Program:
    """The program less a site."""
    sites = tuple(
        replace(site, parents=tuple(parent for parent in site.parents if parent != name))
        for site in program.sites
        if site.name != name
    )
    kept = []
    for handler in program.handlers:
        inside = tuple(one for one in handler.sites if one != name)
        if inside:
            kept.append(replace(handler, sites=inside))
    return replace(program, sites=sites, handlers=tuple(kept))
