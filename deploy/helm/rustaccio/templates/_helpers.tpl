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

{{- /* What `RUSTACCIO_URL_PREFIX` puts before every path, without a slash at its end. */ -}}
{{- define "rustaccio.prefix" -}}
{{- with index .Values.env "RUSTACCIO_URL_PREFIX" -}}
{{- with trimAll "/" . }}/{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "rustaccio.pod" -}}
metadata:
  labels:
    {{- include "rustaccio.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Other settings are other pods.
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
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
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
        - name: RUSTACCIO_BIND
          value: 0.0.0.0:4873
        - name: RUSTACCIO_DATA_DIR
          value: /var/lib/rustaccio/data
        {{- if .Values.config }}
        - name: RUSTACCIO_CONFIG
          value: /etc/rustaccio/config.yml
        {{- end }}
        {{- if .Values.serviceMonitor.enabled }}
        - name: RUSTACCIO_METRICS_BACKEND
          value: prometheus
        - name: RUSTACCIO_METRICS_REQUIRE_ADMIN
          value: "false"
        {{- end }}
        {{- range $name, $value := .Values.env }}
        {{- if has $name (list "RUSTACCIO_BIND" "RUSTACCIO_DATA_DIR") }}
        {{- fail (printf "%s is where the chart's ports and volumes are; leave it out of env" $name) }}
        {{- end }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
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
        httpGet:
          path: {{ include "rustaccio.prefix" . }}/-/health/live
          port: http
        {{- toYaml .Values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet:
          path: {{ include "rustaccio.prefix" . }}/-/health/live
          port: http
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet:
          path: {{ include "rustaccio.prefix" . }}/-/health/ready
          port: http
        {{- toYaml .Values.probes.readiness | nindent 8 }}
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
  {{- $is_template := and (eq .Values.mode "single") (not .Values.persistence.existingClaim) }}
  {{- if or .Values.config (not $is_template) }}
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
