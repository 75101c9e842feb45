// A program as its writer has it: it knows Dagster Pipes and nothing of us.
use dagster_pipes_rust::{open_dagster_pipes, AssetCheckSeverity, DagsterPipesError, PipesMetadataValue};
use serde_json::json;
use std::collections::HashMap;

fn main() -> Result<(), DagsterPipesError> {
    let mut pipes = open_dagster_pipes()?;
    let key = pipes.data.asset_keys.clone().unwrap_or_default().remove(0);
    let rows = 100;
    let metadata = HashMap::from([("row_count", PipesMetadataValue::from(rows as i64))]);
    pipes.report_asset_check("not_empty", rows > 0, &key, &AssetCheckSeverity::Warn, metadata.clone())?;
    pipes.report_asset_materialization(&key, metadata, Some("r1"))?;
    pipes.report_custom_message(json!({"run": pipes.data.run_id}))?;
    pipes.logger.info("loaded")?;
    println!("done");
    Ok(())
}
