{{- define "gw.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 }}{{ end }}
{{- end }}

{{- define "gw.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gw.labels" -}}
{{ include "gw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "gw.secret" -}}
{{ .Values.auth.existingSecret | default (include "gw.name" .) }}
{{- end }}

{{- define "gw.replicas" -}}
{{ if eq .Values.mode "replicated" }}{{ .Values.replicas }}{{ else }}1{{ end }}
{{- end }}

{{- /* The host of the server with a number. */ -}}
{{- define "gw.host" -}}
{{ include "gw.name" .root }}-{{ .number }}.{{ include "gw.name" .root }}-nodes.{{ .root.Release.Namespace }}.svc
{{- end }}

{{- define "gw.podSecurity" -}}
runAsNonRoot: true
runAsUser: 999
runAsGroup: 999
fsGroup: 999
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "gw.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "gw.password" -}}
- name: REDISCLI_AUTH
  valueFrom: { secretKeyRef: { name: {{ include "gw.secret" . }}, key: password } }
{{- end }}
