// The pages' policy refuses style attributes that are written as text. Plotly writes some so; what it means
// is set property by property instead, which the policy allows.
(() => {
  "use strict";
  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function set(name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
})();
