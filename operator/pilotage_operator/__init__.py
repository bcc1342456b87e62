"""The controller, in the order data meets it.

main, run_kubernetes, run_local   its start, there and as processes of one machine
sweep                what it does once a second
held, enact, writing, referred   what it remembers, carries out, writes down
api/                 the custom resources, and what a spec says in the core's types
facts                what is observed and what is decided: the types between the rooms
observe/             what people wrote; the world as facts (kubernetes_api: the API server over HTTP)
decide/              facts to decisions, the same for Kubernetes and local processes
manifests/, apply/   Jobs, model servers and events from values; the world changed by them
permits, keys, callers, files   leave to act, signed, for those who may ask
quarantine           one tenant's mistake stays that tenant's
server               what gateways and Prometheus ask
public               what other packages may import
"""
