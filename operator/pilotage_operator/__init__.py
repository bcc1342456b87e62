"""The controller, in the order data meets it.

main, sweep          its start, and what it does once a second
api/                 the custom resources
handlers/, observe/  what people wrote; the world as facts (kubernetes_api: the API server over HTTP)
decide/              facts to decisions, the same for Kubernetes and local processes
build/, apply/       manifests, and the world changed by them
permits, keys        leave to act, signed
server               what gateways and Prometheus ask
"""
