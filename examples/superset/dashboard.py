"""Shows Portrait's scored customers in Apache Superset: database, datasets, charts and a dashboard, all over Superset's REST API.

Usage: dashboard.py --passfile portrait-data/passfile [--picture dashboard.png]

May be run again: what is there already is brought up to date. Fails when a chart has no data.
"""

import argparse
import json
import os
from pathlib import Path
from shutil import which
from urllib.parse import quote

import requests


class Superset:
    """Superset's REST API, as a user with a password."""

    def __init__(self, url, user, password):
        self.url = url.rstrip("/")
        self.session = requests.Session()
        login = self.call("POST", "security/login", {"username": user, "password": password, "provider": "db"})
        self.session.headers["Authorization"] = "Bearer " + login["access_token"]
        self.session.headers["X-CSRFToken"] = self.call("GET", "security/csrf_token/")["result"]
        self.session.headers["Referer"] = self.url

    def call(self, method, path, body=None, **parameters):
        answer = self.session.request(method, f"{self.url}/api/v1/{path}", json=body, params=parameters, timeout=120)
        if not answer.ok:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def put(self, kind, name, body):
        """Creates or changes the object of a kind that has a name; returns its number."""
        column, value = name
        query = json.dumps({"filters": [{"col": column, "opr": "eq", "value": value}]})
        found = self.call("GET", f"{kind}/", q=query)["ids"]
        if found:
            self.call("PUT", f"{kind}/{found[0]}", {column: value} | body)
            return found[0]
        return self.call("POST", f"{kind}/", {column: value} | body)["id"]


def number(label, expression):
    """A metric of a chart."""
    return {"expressionType": "SQL", "sqlExpression": expression, "label": label, "optionName": label}


def bars(title, dataset, metric, x, by=(), **more):
    form = {
        "viz_type": "echarts_timeseries_bar",
        "x_axis": x,
        "metrics": [metric],
        "groupby": list(by),
        "x_axis_sort": "sum" if by else metric["label"],
        "x_axis_sort_asc": more.get("orientation") == "horizontal",
        "row_limit": 1000,
        "show_legend": bool(by),
        "color_scheme": "supersetColors",
        "rich_tooltip": True,
    }
    return title, dataset, form | more


def lines(title, dataset, metric, time, grain, **more):
    form = {
        "viz_type": "echarts_timeseries_line",
        "x_axis": time,
        "time_grain_sqla": grain,
        "metrics": [metric],
        "groupby": [],
        "row_limit": 1000,
        "show_legend": False,
        "markerEnabled": True,
        "x_axis_time_format": "%b %Y",
        "color_scheme": "supersetColors",
        "rich_tooltip": True,
    }
    return title, dataset, form | more


CHARTS = [
    bars(
        "Customers by segment, and whether a purchase within 30 days is predicted", "customer_scores",
        number("customers", "count(*)"), "segment", by=["prediction"], stack="Stack", xAxisLabelInterval="0",
        x_axis_title="RFM segment", x_axis_title_margin=30, y_axis_title="customers", y_axis_title_margin=50,
        y_axis_title_position="Left",
    ),
    bars(
        "Predicted probability of a purchase within 30 days", "customer_scores",
        number("probability", "avg(purchase_probability)"), "segment", y_axis_format=".0%", orientation="horizontal",
        x_axis_title="", y_axis_title="mean over the customers of a segment", y_axis_title_margin=30,
    ),
    lines(
        "Sales by month, less returns (£; the log ends on 9 December)", "events",
        number("sales", "sum(quantity * price)"), "event_time", "P1M", y_axis_format="~s",
        x_axis_title="month", x_axis_title_margin=30, y_axis_title="£", y_axis_title_margin=50, y_axis_title_position="Left",
    ),
]


def question(dataset, form):
    """What the chart asks the server: kept with the chart, so that Superset answers it without a browser, too."""
    x = {"columnType": "BASE_AXIS", "expressionType": "SQL", "label": form["x_axis"], "sqlExpression": form["x_axis"]}
    if "time_grain_sqla" in form:
        x["timeGrain"] = form["time_grain_sqla"]
    query = {
        "columns": [x, *form["groupby"]],
        "metrics": form["metrics"],
        "row_limit": form["row_limit"],
        "orderby": [[form["metrics"][0], False]],
        "extras": {"having": "", "where": ""},
    }
    source = {"id": dataset, "type": "table"}
    return {"datasource": source, "force": True, "queries": [query], "form_data": form, "result_format": "json", "result_type": "full"}


def layout(charts):
    """The dashboard's grid: the first chart over the whole width, the others below it, side by side."""
    rows = [charts[:1], charts[1:]]
    grid = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"id": "ROOT_ID", "type": "ROOT", "children": ["GRID_ID"]},
        "GRID_ID": {"id": "GRID_ID", "type": "GRID", "children": [], "parents": ["ROOT_ID"]},
    }
    for i, row in enumerate(rows):
        key = f"ROW-{i}"
        grid["GRID_ID"]["children"].append(key)
        meta = {"background": "BACKGROUND_TRANSPARENT"}
        grid[key] = {"id": key, "type": "ROW", "children": [], "parents": ["ROOT_ID", "GRID_ID"], "meta": meta}
        for chart, title in row:
            name = f"CHART-{chart}"
            grid[key]["children"].append(name)
            meta = {"chartId": chart, "sliceName": title, "width": 12 // len(row), "height": 50}
            grid[name] = {"id": name, "type": "CHART", "children": [], "parents": [*grid[key]["parents"], key], "meta": meta}
    return grid


def build(superset, uri):
    database = superset.put("database", ("database_name", "Portrait"), {"sqlalchemy_uri": uri, "expose_in_sqllab": True})
    datasets = {}
    for table in ("customer_scores", "events"):
        wanted = {"database_id": database, "schema": "public", "table_name": table}
        datasets[table] = superset.call("POST", "dataset/get_or_create/", wanted)["result"]["table_id"]
        superset.call("PUT", f"dataset/{datasets[table]}/refresh")
        columns = superset.call("GET", f"dataset/{datasets[table]}")["result"]["columns"]
        print(f"{table}: " + ", ".join(f"{column['column_name']} {column['type'].lower()}" for column in columns))

    dashboard = superset.put("dashboard", ("dashboard_title", "Customers, by Portrait"), {"slug": "portrait", "published": True})
    charts = []
    for title, table, form in CHARTS:
        form = form | {"datasource": f"{datasets[table]}__table"}
        body = {
            "viz_type": form["viz_type"],
            "datasource_id": datasets[table],
            "datasource_type": "table",
            "params": json.dumps(form),
            "query_context": json.dumps(question(datasets[table], form)),
            "dashboards": [dashboard],
        }
        charts.append((superset.put("chart", ("slice_name", title), body), title))
    superset.call("PUT", f"dashboard/{dashboard}", {"position_json": json.dumps(layout(charts))})
    return charts


def check(superset, charts):
    for chart, title in charts:
        result = superset.call("GET", f"chart/{chart}/data/")["result"][0]
        if not result["data"]:
            raise SystemExit(f"{title}: no data: {result['error']}")
        print(f"{title}: {result['rowcount']} rows")


def take_picture(url, user, password, picture):
    """Opens the dashboard in a headless Chromium, as a person would, and waits until every chart is drawn."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions as wanted
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--window-size=1400,1070", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    options.binary_location = which("chromium")
    browser = webdriver.Chrome(options=options, service=Service(which("chromedriver")))
    try:
        wait = WebDriverWait(browser, 120)
        browser.get(f"{url}/login/")
        wait.until(wanted.presence_of_element_located((By.ID, "username"))).send_keys(user)
        browser.find_element(By.ID, "password").send_keys(password)
        browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        wait.until(lambda page: "/login" not in page.current_url)
        browser.get(f"{url}/superset/dashboard/portrait/?standalone=1")
        wait.until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".chart-container canvas")) >= len(CHARTS))
        wait.until_not(wanted.presence_of_element_located((By.CSS_SELECTOR, ".loading")))
        wait.until(lambda page: page.execute_async_script("setTimeout(arguments[0], 2000, true)"))  # the bars grow
        browser.save_screenshot(str(picture))
    finally:
        browser.quit()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--passfile", type=Path, required=True, help="Portrait's passfile, in its data directory")
    arguments.add_argument("--portrait", default="127.0.0.1:5433", help="address of Portrait [%(default)s]")
    arguments.add_argument("--superset", default="http://127.0.0.1:8088", help="address of Superset [%(default)s]")
    arguments.add_argument("--user", default="admin", help="user of Superset [%(default)s]; the password is $SUPERSET_PASSWORD, or admin")
    arguments.add_argument("--picture", type=Path, help="also open the dashboard in a headless Chromium and keep a picture here")
    given = arguments.parse_args()
    password = os.environ.get("SUPERSET_PASSWORD", "admin")

    superset = Superset(given.superset, given.user, password)
    # The password of Portrait stays in the passfile, which libpq reads whenever Superset connects.
    passfile = quote(str(given.passfile.resolve(strict=True)))
    check(superset, build(superset, f"postgresql+psycopg2://portrait@{given.portrait}/portrait?passfile={passfile}"))
    if given.picture:
        take_picture(given.superset, given.user, password, given.picture)
    print(f"open {given.superset}/superset/dashboard/portrait/")


if __name__ == "__main__":
    main()
