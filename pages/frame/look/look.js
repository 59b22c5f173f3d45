// The theme belongs to Streamlit, which keeps it in the browser for the path of each page, and offers its switch to its
// own menu only: the context of its React tree. The text size is the server's; a cookie brings it to the next session.
const NAMES = { system: 'Use system setting', light: 'Light', dark: 'Dark' };
const YEAR_SECONDS = 31536000;
let reported = null; // theme that the server was told last

function streamlit() {
  const root = document.querySelector('.stApp');
  let node = root[Object.keys(root).find((name) => name.startsWith('__reactFiber'))];
  while (node && !node.memoizedProps?.value?.setTheme) node = node.return;
  return node.memoizedProps.value;
}

const chosen = ({ activeTheme: { name } }) => (name.endsWith('Light') ? 'light' : name.endsWith('Dark') ? 'dark' : 'system');

function isDark(theme) {
  return theme === 'dark' || (theme === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);
}

// Path of the app: that of the page without the page's name.
function home(pages) {
  const parts = location.pathname.split('/');
  if (pages.includes(parts.at(-1))) parts[parts.length - 1] = '';
  return parts.join('/');
}

function setTheme(theme, pages) {
  const { setTheme: set, availableThemes } = streamlit(), root = home(pages);
  for (const path of [root, root.replace(/(?<=.)\/$/, ''), ...pages.map((page) => root + page)]) {
    localStorage.setItem(`stActiveTheme-${path}-v2`, JSON.stringify(theme[0].toUpperCase() + theme.slice(1)));
  }
  set(availableThemes.find((one) => one.displayName === NAMES[theme]));
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const theme = chosen(streamlit()), type = isDark(theme) ? 'dark' : 'light';
  for (const input of parentElement.querySelectorAll('input')) {
    input.checked = input.value === (input.name === 'theme' ? theme : data.text);
    input.onchange = () => {
      if (input.name === 'theme') return setTheme(input.value, data.pages);
      document.cookie = `${data.cookie}=${input.value}; path=${home(data.pages)}; max-age=${YEAR_SECONDS}; SameSite=Lax`;
      setStateValue('text', input.value);
    };
  }
  if (type !== data.theme && type !== reported) setTriggerValue('theme', type); // the figures are drawn anew
  reported = type;
}
