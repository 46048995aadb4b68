{{- define "redis.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "redis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "redis.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "redis.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "redis.selectorLabels" -}}
app.kubernetes.io/name: {{ include "redis.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "redis.labels" -}}
{{ include "redis.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "redis.replicaMode" -}}
{{- if eq .Values.mode "replica" }}yes{{ else if ne .Values.mode "standalone" }}{{ fail (printf "mode is %q: it must be standalone or replica" .Values.mode) }}{{ end -}}
{{- end -}}

{{- define "redis.hasPassword" -}}
{{- if or .Values.redis.password .Values.redis.existingSecret }}yes{{ end -}}
{{- end -}}

{{- define "redis.secretName" -}}
{{- .Values.redis.existingSecret | default (include "redis.fullname" .) -}}
{{- end -}}

{{- /* The chart's own Secret always has this key; secretKeyName names another one's. */ -}}
{{- define "redis.secretKey" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.secretKeyName }}{{ else }}redis-password{{ end -}}
{{- end -}}

{{- define "redis.configMapName" -}}
{{- .Values.redis.existingConfigMap | default (include "redis.fullname" .) -}}
{{- end -}}

{{- define "redis.initConfig" -}}
{{- if or (include "redis.replicaMode" .) (include "redis.hasPassword" .) }}yes{{ end -}}
{{- end -}}

{{- define "redis.headless" -}}
{{ include "redis.fullname" . }}-headless
{{- end -}}

{{- define "redis.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "redis.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "redis.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "redis.passwordEnv" -}}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "redis.secretName" . }}
      key: {{ include "redis.secretKey" . }}
{{- end -}}
