"""What the reader of a dashboard has chosen, as label matchers."""

NAMESPACE = 'namespace=~"$namespace"'
MODEL = f'{NAMESPACE},model=~"$model"'
REPLICA = f'{MODEL},replica=~"$replica"'
TENANT = f'{NAMESPACE},tenant=~"$tenant"'
