"""A failpoint that acts for some tenants only, selected by the context of its site.

python -m examples.context_demo
"""

from __future__ import annotations

import anyio

from failpoints import configured, failpoint


@failpoint("backup", context=["tenant_id"])  # the context is the parameter `tenant_id`
async def backup(tenant_id: str) -> str:
    """Back up one tenant."""
    return f"{tenant_id} was backed up"


async def main() -> None:
    """Back up two tenants, while a failpoint skips those whose id starts with `test_`."""
    # The pattern must match the whole value. A context without the key would not match.
    with configured("backup", "return(skipped)", context={"tenant_id": "test_.*"}) as handle:
        for tenant_id in ["test_1", "production_1"]:
            print(f"backup({tenant_id!r}) -> {await backup(tenant_id)!r}")

        status = handle.status
        print(f"hits: {status.hits} (the context matched), misses: {status.misses} (it did not)")

    print(f"removed: backup('test_1') -> {await backup('test_1')!r}")


if __name__ == "__main__":
    anyio.run(main)
