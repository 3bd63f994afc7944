{{- define "portcullis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "portcullis.redisSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end -}}

{{- define "portcullis.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The configuration file: `config` as it stands, and what only the chart knows. */ -}}
{{- define "portcullis.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "listen" (default "0.0.0.0:8080" $config.listen) -}}
{{- $_ := set $config "data_dir" (default "/var/lib/portcullis" $config.data_dir) -}}
{{- if and (not $config.state) (not .Values.redis.enabled) (not .Values.redis.existingUrlSecret) -}}
{{- $_ := set $config "state" "sqlite:/var/lib/portcullis/portcullis.db" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "portcullis.shared" -}}
{{- if or .Values.redis.enabled .Values.redis.existingUrlSecret (hasPrefix "redis" (default "" .Values.config.state)) -}}yes{{- end -}}
{{- end -}}

{{- /* Longer than the drain: readiness fails first, then requests in flight may finish, and then records are written. */ -}}
{{- define "portcullis.grace" -}}
{{- $limits := default dict .Values.config.limits -}}
{{- add (ceil (default 1 $limits.ready_grace_seconds)) (ceil (default 30 $limits.drain_seconds)) .Values.termination.marginSeconds -}}
{{- end -}}

{{- define "portcullis.port" -}}
{{- default "0.0.0.0:8080" .Values.config.listen | splitList ":" | last -}}
{{- end -}}
