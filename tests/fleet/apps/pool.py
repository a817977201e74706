"""A pool of `multiprocessing` whose workers are replaced, each after one job or because it died."""

from __future__ import annotations

import json
import multiprocessing
import sys

from jobs import charge  # type: ignore[import-not-found]  # beside this file

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2, maxtasksperchild=1) as pool:
        recycled = pool.map(charge, ["a", "b", "c", "d", "e", "f"], chunksize=1)
    with context.Pool(1) as pool:
        lost = pool.apply_async(charge, ("dies",))
        following = pool.apply(charge, ("next",))
        print(json.dumps({"recycled": recycled, "next": following, "lost": not lost.ready()}))
