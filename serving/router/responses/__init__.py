"""Stored responses of /v1/responses: kept on the node, continued, and run in the background."""
