"""/v1/files and /v1/batches: files of requests, answered in what other requests leave free."""
