"""A pipeline that fans out, for the test kit."""

from pipelines.authoring import task


@task
def regions() -> list[str]:
    return ["no", "se"]


@task(partitions=regions)
def fetch(item: str, partition: str, day: str) -> dict[str, str]:
    return {"region": item, "partition": partition, "day": day}


@task(per=fetch)
def clean(fetch: dict[str, str]) -> str:
    return fetch["region"].upper()


@task(when='params.day != ""')
def publish(clean: list[str]) -> str:
    return "+".join(clean)
