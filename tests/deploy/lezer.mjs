// Each line of standard input is a query of LogQL; those that Grafana's grammar does not take are printed.
import { parser } from '@grafana/lezer-logql';
import { createInterface } from 'node:readline';

for await (const query of createInterface({ input: process.stdin })) {
  let wrong = false;
  parser.parse(query).iterate({ enter: (node) => { wrong ||= node.type.isError; } });
  if (wrong) console.log(query);
}
