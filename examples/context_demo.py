"""A failpoint that acts for some tenants only: what a site says about itself decides.

python -m examples.context_demo
"""

from __future__ import annotations

import anyio

from failpoints import configured, failpoint


@failpoint("backup", context=["tenant_id"])  # the parameter `tenant_id` is this site's context
async def backup(tenant_id: str) -> str:
    """Back up one tenant."""
    return f"{tenant_id} is backed up"


async def main() -> None:
    """Back up two tenants, while a failpoint skips those whose name begins with `test_`."""
    # A text must match the whole value; a key that the context lacks would not match either.
    with configured("backup", "return(skipped)", context={"tenant_id": "test_.*"}) as handle:
        for tenant_id in ["test_1", "production_1"]:
            print(f"backup({tenant_id!r}) -> {await backup(tenant_id)!r}")

        status = handle.status
        print(f"hits: {status.hits} (the context matched), misses: {status.misses} (it did not)")

    print(f"removed: backup('test_1') -> {await backup('test_1')!r}")


if __name__ == "__main__":
    anyio.run(main)
