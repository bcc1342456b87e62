{{/* What the installation's own pods run. */}}
{{- define "pilotage.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end }}

{{/* Where pods may run; given the root and the part. */}}
{{- define "pilotage.placement" -}}
{{- $root := index . 0 }}{{ $part := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the controller may do where process clusters are. */}}
{{- define "pilotage.fleetRules" -}}
- apiGroups: [pilotage.dev]
  resources: [processclusters, policycritics, automationgates]
  verbs: [list, watch]
- apiGroups: [pilotage.dev]
  resources: [processclusters/status, policycritics/status, automationgates/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, delete]
# Server-side apply is a patch, and a `create` where nothing was there.
- apiGroups: [serving.kserve.io]
  resources: [inferenceservices]
  verbs: [list, watch, create, patch, delete]
# A Job's result is its pod's termination message.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Screen schemas are ConfigMaps beside the ProcessCluster that names them. Of all others only versions are asked for.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# What happened to a process cluster, for `kubectl describe`; and why a Job gets no pod.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
{{- end }}
