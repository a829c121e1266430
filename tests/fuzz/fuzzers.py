"""Maps the name of each fuzzer to the fuzzer."""

from tests.fuzz.data_sets import DATA_SETS
from tests.fuzz.full_disks import FULL_DISKS
from tests.fuzz.image_folders import IMAGE_FOLDERS
from tests.fuzz.import_sources import IMPORT_SOURCES
from tests.fuzz.kills import KILLS
from tests.fuzz.leaks import LEAKS
from tests.fuzz.overrides import OVERRIDES
from tests.fuzz.plans import PLANS
from tests.fuzz.run_folders import RUN_FOLDERS
from tests.fuzz.yaml_files import YAML_FILES

FUZZERS = {
    fuzzer.name: fuzzer
    for fuzzer in (
        DATA_SETS,
        IMAGE_FOLDERS,
        IMPORT_SOURCES,
        OVERRIDES,
        YAML_FILES,
        PLANS,
        RUN_FOLDERS,
        FULL_DISKS,
        LEAKS,
        KILLS,
    )
}
