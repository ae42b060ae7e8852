from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from cvae_cli.images.owners import OutputOwners


def test_an_output_belongs_to_the_first_path_that_claims_it() -> None:
    with closing(OutputOwners()) as owners:
        assert owners.claim("a/x", "a/x.png") == "new"
        assert owners.claim("a/x", "a/x.png") == "repeated"
        assert owners.claim("a/x", "_up/x.png") == "taken"
        assert owners.claim("b/x", "a/x.png") == "new"


def test_where_case_is_ignored_names_that_differ_in_it_are_one() -> None:
    for fold_case, found in ((False, "new"), (True, "taken")):
        with closing(OutputOwners(fold_case=fold_case)) as owners:
            owners.claim("a/x", "a/x.png")
            assert owners.claim("A/X", "A/X.png") == found


def test_owners_are_forgotten_together_even_in_another_thread() -> None:
    owners = OutputOwners()
    owners.claim("x", "x.png")
    thread = threading.Thread(target=owners.close)
    thread.start()
    thread.join()
    with closing(OutputOwners()) as others:
        assert others.claim("x", "y.png") == "new"


def test_a_long_list_does_not_stay_in_memory() -> None:
    """300,000 paths: 34 MB as a dictionary of hashes."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    with closing(OutputOwners()) as owners:
        for index in range(20_000):  # fills what is allocated once
            owners.claim(f"warm/{index}", f"warm/{index}.png")
        before = resident()
        for index in range(300_000):
            owners.claim(f"imgs/{index}", f"imgs/{index}.png")
        assert resident() - before < 16e6
        assert owners.claim("imgs/7", "imgs/7.png") == "repeated"
