"""Label matchers for what the reader of a dashboard selected in its variables."""

NAMESPACE = 'namespace=~"$namespace"'
MODEL = f'{NAMESPACE},model=~"$model"'
REPLICA = f'{MODEL},replica=~"$replica"'
TENANT = f'{NAMESPACE},tenant=~"$tenant"'
