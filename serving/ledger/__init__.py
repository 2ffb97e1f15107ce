"""The usage ledger: which tenant, API key and model used how much. Pure but for `folder`."""
