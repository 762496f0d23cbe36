"""A Xen PV kernel's map from pseudo-physical to machine frames.

``layouts`` reads it from wherever a kernel version keeps it, ``shared_info`` from
where the kernel tells Xen it is, ``framelist`` has
the list that crash tools use, ``coverage`` compares the two, ``diagnosis`` does
all of it for a dump; ``ranges`` shows it, ``verify`` compares it with what else
knows of the kernel's memory.
"""

from .coverage import Check, Coverage, check_direct_map, survey
from .diagnosis import Diagnosis, diagnose, diagnose_without_namelist
from .entries import Kind, kind_of
from .failure import Failure, failure_of, failure_of_list
from .framelist import FrameList, build_list, read_list
from .layouts import LAYOUTS, PFNS_PER_LEAF, P2mTable, find_layout, read_table
from .ranges import Range, Source, ranges
from .verify import Disagreement, Verification, sample, verify

__all__ = [
    "LAYOUTS",
    "PFNS_PER_LEAF",
    "Check",
    "Coverage",
    "Diagnosis",
    "Disagreement",
    "Failure",
    "FrameList",
    "Kind",
    "P2mTable",
    "Range",
    "Source",
    "Verification",
    "build_list",
    "check_direct_map",
    "diagnose",
    "diagnose_without_namelist",
    "failure_of",
    "failure_of_list",
    "find_layout",
    "kind_of",
    "ranges",
    "read_list",
    "read_table",
    "sample",
    "survey",
    "verify",
]
