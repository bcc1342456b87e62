#!/usr/bin/env bash
# The node: etcd, control plane, containerd, kubelet, kube-proxy, CoreDNS and the KServe controller, as processes of one
# set of namespaces whose process 1 this is. Started by up.sh alone; dies, with all it started, when its parent does.
# Mounts, sysctls and links made here are seen in these namespaces only.
# usage: node.sh CACHE (the folder as the host sees it)
set -euo pipefail

# The cache gets a place that no mount below hides, wherever the host has it.
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/pilotage
mount --bind "$1" /run/pilotage
export PILOTAGE_CACHE=/run/pilotage
. "$(dirname "$0")/lib.sh"
PKI=$STATE/pki
VAR=$STATE/node/var

private_folders() {
  mkdir -p "$VAR"/{lib/pilotage-artefacts,log,tmp,run}
  mount --bind "$ARTEFACTS" "$VAR/lib/pilotage-artefacts"
  mount --rbind "$VAR" /var
  mount -t tmpfs -o mode=1777 tmpfs /tmp
  mount -t overlay overlay -o "ro,lowerdir=$TREE/usr:/usr" /usr
  mount -t overlay overlay -o "ro,lowerdir=$TREE/etc:/etc" /etc
}

# kubelet writes these, and they are the whole machine's: it gets files of its own that already say what it wants.
shield_sysctls() {
  local setting name
  mkdir /run/sysctl
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    name=${setting%=*}
    printf '%s\n' "${setting#*=}" >"/run/sysctl/${name//\//.}"
    mount --bind "/run/sysctl/${name//\//.}" "/proc/sys/$name"
  done
}

network() {
  ip link set lo up
  await 15 "the link to the host" ip link show eth0
  ip addr add "$NODE_IP/30" dev eth0
  ip link set eth0 up
  ip link add pods0 type bridge
  ip addr add 10.244.0.1/24 dev pods0
  ip link set pods0 up
  ip route add 10.96.0.0/16 dev pods0   # so that no packet for a Service leaves; kube-proxy rewrites it first
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
}

# Pods live under a cgroup of our own, so that what a killed node leaves can be told from anybody else's.
cgroups() {
  local folder file
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then mkdir -p /sys/fs/cgroup/pilotage; return; fi
  for folder in /sys/fs/cgroup/*/; do
    [[ -L ${folder%/} ]] && continue
    mkdir -p "$folder/pilotage"
    for file in cpuset.cpus cpuset.mems; do   # empty in a new folder, and then nothing can run there
      [[ -e $folder/$file ]] && cat "$folder/$file" >"$folder/pilotage/$file"
    done
  done
  return 0
}

settings() {
  mkdir -p /run/node /run/cni /tmp/k8s-webhook-server/serving-certs
  cp "$PKI/server.crt" /tmp/k8s-webhook-server/serving-certs/tls.crt
  cp "$PKI/server.key" /tmp/k8s-webhook-server/serving-certs/tls.key
  fill containerd.toml >/run/node/containerd.toml
  fill pods.conflist >/run/cni/10-pods.conflist
  fill kubelet.yaml >/run/node/kubelet.yaml
  fill Corefile >/run/node/Corefile
  fill audit.yaml >/run/node/audit.yaml
}

# supervise NAME COMMAND…: runs it for as long as the node lives, and writes $STATE/log/NAME.log.
supervise() {
  local name=$1; shift
  (
    while :; do
      "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null || true
      say "$name ended; again in a second"
      sleep 1
    done
  ) &
}

containerd_() { containerd --config /run/node/containerd.toml "$@"; }

# Images outlive the node, its containers must not: they are removed before the runtime interface looks for them.
forget_containers() {
  local runtime ctr=(ctr --address /run/containerd/containerd.sock --namespace k8s.io) names
  containerd --config <(sed 's/^disabled_plugins = \[/&"io.containerd.grpc.v1.cri", /' /run/node/containerd.toml) \
    >>"$STATE/log/containerd.log" 2>&1 &
  runtime=$!
  await 15 containerd "${ctr[@]}" version
  mapfile -t names < <("${ctr[@]}" containers ls -q)
  ((${#names[@]} == 0)) || "${ctr[@]}" containers rm "${names[@]}" >/dev/null
  "${ctr[@]}" images ls -q | grep -qx "localhost/pause:$PAUSE_VERSION" ||
    "${ctr[@]}" images import "$IMAGES/pause-$PAUSE_VERSION.tar" >/dev/null
  kill "$runtime"
  wait "$runtime" || true   # it says that it was killed
}

control_plane() {
  local version=$KUBERNETES_VERSION
  supervise etcd "$BIN/etcd-$ETCD_VERSION" --data-dir /var/lib/etcd --unsafe-no-fsync --quota-backend-bytes 4294967296 \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --log-level warn
  await 15 etcd curl -sf http://127.0.0.1:2379/health
  supervise kube-apiserver "$BIN/kube-apiserver-$version" --etcd-servers http://127.0.0.1:2379 \
    --bind-address 0.0.0.0 --advertise-address "$NODE_IP" --secure-port 6443 \
    --tls-cert-file "$PKI/server.crt" --tls-private-key-file "$PKI/server.key" --client-ca-file "$PKI/ca.crt" \
    --requestheader-client-ca-file "$PKI/ca.crt" --requestheader-allowed-names front-proxy \
    --kubelet-client-certificate "$PKI/admin.crt" --kubelet-client-key "$PKI/admin.key" \
    --kubelet-preferred-address-types InternalIP --authorization-mode Node,RBAC --allow-privileged \
    --service-account-issuer https://kubernetes.default.svc.cluster.local --service-cluster-ip-range 10.96.0.0/16 \
    --service-account-signing-key-file "$PKI/sa.key" --service-account-key-file "$PKI/sa.pub" --profiling=false \
    --audit-policy-file /run/node/audit.yaml --audit-log-path "$STATE/log/audit.log" --audit-log-maxsize 0
  await 60 "the API server" kubectl_ get --raw /readyz
  supervise kube-controller-manager "$BIN/kube-controller-manager-$version" --kubeconfig "$KUBECONFIG_FILE" \
    --leader-elect=false --use-service-account-credentials --root-ca-file "$PKI/ca.crt" \
    --service-account-private-key-file "$PKI/sa.key" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key"
  supervise kube-scheduler "$BIN/kube-scheduler-$version" --kubeconfig "$KUBECONFIG_FILE" --leader-elect=false \
    --authentication-kubeconfig "$KUBECONFIG_FILE" --authorization-kubeconfig "$KUBECONFIG_FILE"
}

workers() {
  supervise kubelet "$BIN/kubelet-$KUBERNETES_VERSION" --config /run/node/kubelet.yaml --kubeconfig "$KUBECONFIG_FILE" \
    --hostname-override "$NODE_NAME" --node-ip "$NODE_IP"
  supervise kube-proxy "$BIN/kube-proxy-$KUBERNETES_VERSION" --kubeconfig "$KUBECONFIG_FILE" --proxy-mode iptables \
    --cluster-cidr 10.244.0.0/24 --hostname-override "$NODE_NAME" --conntrack-max-per-core 0
  supervise coredns "$BIN/coredns-$COREDNS_VERSION" -conf /run/node/Corefile
}

kserve() {
  kubectl_ apply --server-side -f "$BIN/kserve-crds-$KSERVE_VERSION.yaml" >/dev/null
  # wait gives up at once on one that has no conditions yet.
  await 30 "KServe's CRDs" kubectl_ wait --for condition=Established crd --all --timeout 5s
  supervise kserve env KUBECONFIG="$KUBECONFIG_FILE" "$BIN/kserve-manager-$KSERVE_VERSION"
}

private_folders
shield_sysctls
network
cgroups
settings
forget_containers
supervise containerd containerd_
control_plane
workers
kubectl_ apply -f "$STATE/node/dns.yaml" -f "$STATE/node/kserve.yaml" >/dev/null
kserve
wait
