{{/* The text of the value at a path: numbers in plain digits, names as alternatives. */}}
{{- define "rules.value" -}}
{{- $value := .values -}}
{{- range splitList "." .path -}}
{{- $value = index $value . -}}
{{- end -}}
{{- if kindIs "slice" $value -}}
{{- join "|" $value -}}
{{- else if and (kindIs "float64" $value) (eq (floor $value) $value) -}}
{{- printf "%.0f" $value -}}
{{- else -}}
{{- $value -}}
{{- end -}}
{{- end -}}

{{/* Not empty if a group or a rule is not switched off; few have a switch. */}}
{{- define "rules.on" -}}
{{- if not .switch -}}
always
{{- else if eq (include "rules.value" (dict "values" .values "path" .switch)) "true" -}}
on
{{- end -}}
{{- end -}}

{{/* A rule's fields, as JSON, with values in place of each ${path}. A field that is optional is
     left out when the first value in it is the one that says so. */}}
{{- define "rules.filled" -}}
{{- $root := . -}}
{{- $filled := dict -}}
{{- range $key, $text := .fields -}}
{{- if kindIs "map" $text -}}
{{- $_ := set $filled $key (include "rules.filled" (dict "fields" $text "values" $root.values "optional" $root.optional) | fromJson) -}}
{{- else -}}
{{- $first := "" -}}
{{- range $index, $place := regexFindAll "\\$\\{[A-Za-z0-9_.]+\\}" $text -1 -}}
{{- $path := trimSuffix "}" (trimPrefix "${" $place) -}}
{{- $value := include "rules.value" (dict "values" $root.values "path" $path) -}}
{{- if eq $index 0 -}}
{{- $first = $value -}}
{{- end -}}
{{- $text = replace $place $value $text -}}
{{- end -}}
{{- if not (and (hasKey $root.optional $key) (eq $first (get $root.optional $key))) -}}
{{- $_ := set $filled $key $text -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $filled -}}
{{- end -}}
