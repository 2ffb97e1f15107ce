"""The rules that manifests must obey: `mistral-serve deploy lint`.

A file is one kind of rule, and rules.py has what to do about each. Each rule is pure: it reads the
manifests, no cluster.
"""
