// Records what minimatch decides, for the test of our own patterns.
// Usage: npm install minimatch@10.2.6 in a scratch folder, then
//   node scripts/record-minimatch.mjs <scratch folder> > tests/corpus/minimatch.json
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const require = createRequire(resolve(process.argv[2], 'index.js'));
const { minimatch } = require('minimatch');

const patterns = [
  '**', '*', '*/*', '@*/*', '@acme/*', '@acme/**', '@acme/app-*', 'app-*', '*-app', 'a*b', 'a?c', '?',
  '??', '[abc]*', '[!abc]*', '[a-f]oo', '[^a-f]oo', '{foo,bar}', '{foo,bar}-*', '@{acme,beta}/*',
  'app-{1..3}', '{a,{b,c}}', '!foo', '!@acme/*', '!!foo', '@(foo|bar)', '?(foo)bar', '*(ab)', '+(ab)',
  '+(a|b)c', '!(foo)', '!(foo|bar)', '!(foo)*', '@acme/!(secret)', '@acme/!(secret)-*', '@!(acme)/*',
  '@acme/@(a|b)-*', 'FOO', '@ACME/*', 'lodash', '@types/node', '**/*', '@acme/**/x', '**/node', 'foo/**',
  'a**b', '@acme', '*(foo|ba?)', '+([a-z])', '[a-z]*-[0-9]', '@*/!(x|y)', '{@acme/*,foo}',
  '!({foo,bar})', 'foo.js', 'foo.*', '*.js', 'a.b-c_d',
];
const names = [
  'foo', 'bar', 'foobar', 'FOO', 'Foo', 'lodash', 'app-1', 'app-2', 'app-4', 'app-one', 'my-app', 'a', 'ab', 'abab', 'abc',
  'axc', 'b', 'c', 'z', 'moo', 'doo', 'foo-1', 'foo-x', 'bar-x', 'ac', 'bc', 'aabc', 'x-1', 'foo.js', 'foo.css', 'a.b-c_d',
  '@acme/app', '@acme/app-1', '@acme/secret', '@acme/secret-x', '@acme/public', '@acme/a-1', '@acme/x', '@ACME/App',
  '@beta/app', '@other/x', '@other/z', '@types/node', '@a/b',
];
const options = { nocase: true, dot: true };
const recorded = patterns.map((pattern) => {
  const matches = names.filter((name) => minimatch(name, pattern, options));
  return { pattern, matches, others: names.filter((name) => !matches.includes(name)) };
});
console.log(JSON.stringify(recorded, null, 1));
