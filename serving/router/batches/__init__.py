"""/v1/files and /v1/batches: files of requests, answered in what interactive requests leave free."""
