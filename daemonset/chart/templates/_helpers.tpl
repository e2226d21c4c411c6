{{/* The name of every object: the name of the release, with the name of the chart in it. */}}
{{- define "kube-gpu-exporter.name" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "kube-gpu-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Other labels than the selector's, because a test is no exporter. */}}
{{- define "kube-gpu-exporter.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kube-gpu-exporter.labels" -}}
{{ include "kube-gpu-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kube-gpu-exporter.metadata" -}}
name: {{ include "kube-gpu-exporter.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "kube-gpu-exporter.labels" . | nindent 2 }}
{{- end -}}

{{- define "kube-gpu-exporter.image" -}}
{{- with .Values.image -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "kube-gpu-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "kube-gpu-exporter.name" .) }}
{{- else -}}
{{ required "serviceAccount.name must be given when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "kube-gpu-exporter.priorityClassName" -}}
{{- if .Values.priorityClass.create -}}
{{ .Values.priorityClass.name | default (include "kube-gpu-exporter.name" .) }}
{{- else -}}
{{ .Values.priorityClass.name }}
{{- end -}}
{{- end -}}

{{- define "kube-gpu-exporter.volumeMounts" -}}
{{- if .Values.kubelet.enabled }}
- name: pod-resources
  mountPath: /var/lib/kubelet/pod-resources
  readOnly: true
{{- end }}
{{- if eq .Values.gpuAccess "volumeMount" }}
- name: gpus
  mountPath: /var/run/nvidia-container-devices/all
  readOnly: true
{{- end }}
{{- if .Values.tls.secretName }}
- name: tls
  mountPath: /etc/kube-gpu-exporter/tls
  readOnly: true
{{- end }}
{{- if .Values.basicAuth.secretName }}
- name: users
  mountPath: /etc/kube-gpu-exporter/users
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kube-gpu-exporter.volumes" -}}
{{- with .Values.kubelet }}
{{- if .enabled }}
# The directory and not the socket, because the kubelet creates a new socket whenever it starts.
- name: pod-resources
  hostPath:
    path: {{ .rootDir }}/pod-resources
    type: Directory
{{- end }}
{{- end }}
{{- if eq .Values.gpuAccess "volumeMount" }}
# NVIDIA's container toolkit reads which GPUs are requested from the path of this mount.
- name: gpus
  hostPath:
    path: /dev/null
    type: CharDevice
{{- end }}
{{- with .Values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ . }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- with .Values.basicAuth.secretName }}
# Only the hashes: the password itself is for Prometheus.
- name: users
  secret:
    secretName: {{ . }}
    items:
      - {key: users, path: users}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The endpoint of a PodMonitor or ServiceMonitor, from its values. */}}
{{- define "kube-gpu-exporter.endpoint" -}}
{{- $monitor := .monitor -}}
port: metrics
path: /metrics
# The labels namespace, pod and container name the workload that uses the GPU, not the exporter.
honorLabels: true
{{- with $monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with $monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- $tls := .root.Values.tls -}}
{{- if $tls.secretName }}
scheme: https
tlsConfig:
  {{- if $tls.serverName }}
  serverName: {{ $tls.serverName }}
  ca:
    secret:
      name: {{ $tls.secretName }}
      key: ca.crt
  {{- else }}
  # Prometheus scrapes pods by address, and certificates are for names.
  insecureSkipVerify: true
  {{- end }}
{{- end }}
{{- with .root.Values.basicAuth.secretName }}
basicAuth:
  username:
    name: {{ . }}
    key: username
  password:
    name: {{ . }}
    key: password
{{- end }}
relabelings:
  # A series names the node as its source, because the node stays when the exporter's pod is replaced.
  - action: labeldrop
    regex: namespace|pod|container|endpoint{{ .drop }}
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: node
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: instance
  {{- with $monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
