{{- define "rustaccio.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rustaccio.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rustaccio.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "rustaccio.selector" . }}
{{- end -}}

{{- define "rustaccio.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rustaccio.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "rustaccio.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* What `RUSTACCIO_URL_PREFIX`, or `url_prefix` in the file, puts before every path; without a slash at its end. */ -}}
{{- define "rustaccio.prefix" -}}
{{- $path := coalesce (index .Values.env "RUSTACCIO_URL_PREFIX") (index (fromYaml .Values.config) "url_prefix") -}}
{{- with trimAll "/" ($path | default "") }}/{{ . }}{{ end -}}
{{- end -}}

{{- /* With a certificate the port speaks TLS. */ -}}
{{- define "rustaccio.scheme" -}}
{{- ternary "HTTPS" "HTTP" (hasKey .Values.env "RUSTACCIO_TLS_CERT") -}}
{{- end -}}

{{- /* How large the cache of upstream may become: most of a folder of its own, half of a volume that has all else, too. */ -}}
{{- define "rustaccio.cacheSize" -}}
{{- $is_alone := eq .Values.mode "many" -}}
{{- $room := ternary .Values.cacheSize .Values.persistence.size $is_alone -}}
{{- $unit := get (dict "Mi" "kb" "Gi" "mb" "Ti" "gb") (regexFind "..$" $room) -}}
{{- printf "%d%s" (mul (regexFind "^[0-9]+" $room) (ternary 819 512 $is_alone)) $unit -}}
{{- end -}}

{{- /* Variables of the program: those of `env`, and what follows from other values. */ -}}
{{- define "rustaccio.env" -}}
{{- $env := dict "RUSTACCIO_BIND" "0.0.0.0:4873" "RUSTACCIO_DATA_DIR" "/var/lib/rustaccio/data" -}}
{{- range $name, $_ := $env -}}
{{- if hasKey $.Values.env $name }}{{ fail (printf "%s is where the chart's ports and volumes are; leave it out of env" $name) }}{{ end -}}
{{- end -}}
{{- if .Values.config -}}
{{- $_ := set $env "RUSTACCIO_CONFIG" "/etc/rustaccio/config.yml" -}}
{{- else -}}
{{- $_ := set $env "RUSTACCIO_CACHE_MAX_SIZE" (include "rustaccio.cacheSize" .) -}}
{{- if and .Values.ingress.enabled .Values.ingress.tls (eq (len .Values.ingress.hosts) 1) -}}
{{- $_ := set $env "RUSTACCIO_PUBLIC_URL" (printf "https://%s%s" (first .Values.ingress.hosts).host (include "rustaccio.prefix" .)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.serviceMonitor.enabled -}}
{{- $_ := set $env "RUSTACCIO_METRICS_BACKEND" "prometheus" -}}
{{- $_ := set $env "RUSTACCIO_METRICS_REQUIRE_ADMIN" (ternary "true" "false" (ne .Values.serviceMonitor.tokenSecret "")) -}}
{{- end -}}
{{- range $name, $value := merge (dict) .Values.env $env }}
- name: {{ $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end -}}

{{- define "rustaccio.probe" -}}
httpGet:
  path: {{ include "rustaccio.prefix" .root }}/-/health/{{ .of }}
  port: http
  scheme: {{ include "rustaccio.scheme" .root }}
{{ toYaml .times }}
{{- end -}}

{{- define "rustaccio.pod" -}}
metadata:
  labels:
    {{- include "rustaccio.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A pod does not see that its settings are others.
    checksum/config: {{ .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "rustaccio.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: rustaccio
      image: {{ include "rustaccio.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- with .Values.args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      env:
        {{- include "rustaccio.env" . | trim | nindent 8 }}
      {{- with .Values.envFromSecrets }}
      envFrom:
        {{- range . }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      ports:
        - name: http
          containerPort: 4873
      startupProbe:
        {{- include "rustaccio.probe" (dict "root" . "of" "live" "times" .Values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- include "rustaccio.probe" (dict "root" . "of" "live" "times" .Values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- include "rustaccio.probe" (dict "root" . "of" "ready" "times" .Values.probes.readiness) | nindent 8 }}
      {{- if .Values.preStopSleepSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSleepSeconds }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /var/lib/rustaccio
        {{- if .Values.config }}
        - name: config
          mountPath: /etc/rustaccio
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- $is_template := and (eq .Values.mode "single") (not .Values.persistence.existingClaim) }}
  {{- if or .Values.config .Values.extraVolumes (not $is_template) }}
  volumes:
    {{- if eq .Values.mode "many" }}
    - name: data
      emptyDir:
        sizeLimit: {{ .Values.cacheSize }}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim }}
    {{- end }}
    {{- if .Values.config }}
    - name: config
      configMap:
        name: {{ include "rustaccio.name" . }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if eq .Values.mode "many" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "rustaccio.selector" . | nindent 10 }}
  {{- end }}
{{- end -}}
