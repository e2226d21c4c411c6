// What a generated dashboard may hold, by Grafana's own types: the dashboard, and for each kind of
// panel its options and the custom part of its field config. JSON has plain values where the types
// have enums; `Json` says the same of them.
import type * as grafana from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as stateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Json<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends object
      ? { [K in keyof T]: Json<T[K]> }
      : T;

// Fields that every visualization has, without those that only its own `custom` holds.
type Field = Omit<Json<grafana.FieldConfig>, 'custom'>;

type Property<Custom> =
  | { [K in keyof Field & string]: { id: K; value: Required<Field>[K] } }[keyof Field & string]
  | {
      [K in keyof Custom & string]: { id: `custom.${K}`; value: Required<Custom>[K] };
    }[keyof Custom & string];

// From @grafana/prometheus, which has it apart from the schema.
interface Target {
  refId: string;
  datasource: { type: 'prometheus'; uid: string };
  expr: string;
  legendFormat: string;
  format: 'time_series' | 'table';
  instant: boolean;
  range: boolean;
  exemplar: boolean;
  editorMode: 'code';
}

// From the transformers of @grafana/data; those that the dashboards use.
type Transformation =
  | { id: 'merge'; options: {} }
  | { id: 'limit'; options: { limitField: number } }
  | { id: 'sortBy'; options: { fields: {}; sort: { field: string; desc?: boolean }[] } }
  | {
      id: 'groupingToMatrix';
      options: { rowField: string; columnField: string; valueField: string; emptyValue: 'null' };
    }
  | {
      id: 'organize';
      options: {
        excludeByName?: Record<string, boolean>;
        indexByName?: Record<string, number>;
        renameByName?: Record<string, string>;
      };
    };

type Panel<Type extends string, Options, Custom> = Omit<
  Json<grafana.Panel>,
  'type' | 'options' | 'fieldConfig' | 'targets' | 'transformations'
> & {
  type: Type;
  title: string;
  description: string;
  id: number;
  gridPos: grafana.GridPos;
  options: Json<Options>;
  fieldConfig: {
    defaults: Field & { custom?: Json<Custom> };
    overrides: { matcher: { id: 'byName' | 'byRegexp'; options: string }; properties: Property<Json<Custom>>[] }[];
  };
  targets: Target[];
  transformations: Transformation[];
};

type Panels =
  | Panel<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | Panel<'stat', stat.Options, {}>
  | Panel<'bargauge', bargauge.Options, {}>
  | Panel<'table', grafana.TableOptions, grafana.TableFieldOptions>
  | Panel<'state-timeline', stateTimeline.Options, stateTimeline.FieldConfig>
  | Panel<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | Json<grafana.RowPanel>;

// Prometheus' annotations, whose own fields @grafana/prometheus reads beside the query.
interface PrometheusAnnotation {
  target: { refId: string; expr: string; interval: string };
  useValueForTime: boolean;
  titleFormat: string;
  textFormat: string;
  tagKeys: string;
}
type Annotation =
  | Omit<Json<grafana.AnnotationQuery>, 'target'>
  | (Omit<Json<grafana.AnnotationQuery>, 'target'> & PrometheusAnnotation);

export type Dashboard = Omit<Json<grafana.Dashboard>, 'panels' | 'annotations'> & {
  uid: string;
  title: string;
  panels: Panels[];
  annotations: { list: Annotation[] };
};
