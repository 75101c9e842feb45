# ruff: noqa: INP001 - a program as its writer has it: it knows Dagster Pipes and nothing of us
import sys

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.log.info("loading %s", pipes.partition_key)
    print("printed as ever")
    print("a warning", file=sys.stderr)
    rows = pipes.get_extra("params")["rows"]
    pipes.report_asset_check("not_empty", passed=rows > 0, metadata={"rows": rows}, severity="ERROR")
    pipes.report_asset_materialization(
        metadata={
            "dagster/row_count": rows,
            "source": {"raw_value": "s3://landing/orders", "type": "url"},
            "dagster/column_schema": {
                "raw_value": {"columns": [{"name": "id", "type": "int"}, {"name": "amount", "type": "float"}]},
                "type": "table_schema",
            },
        },
        data_version="v7",
    )
    pipes.report_custom_message({"trace": pipes.get_extra("traceparent"), "retry": pipes.retry_number})
