"""Programs that do work through a broker, and know nothing of it but its Python SDK.

They are meant to be read, run and copied; docs/examples.md shows each. `ml_pipeline`, `service_events`, `thumbnails`,
`webhook_inbox`, `notifications`, `csv_bridge` and `legacy_command` are uses, `load_producer` and `load_consumer` make
load, `demo` runs `job_worker` against a broker of its own.
"""
